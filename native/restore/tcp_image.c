#include "restore/tcp_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/disk.h"
#include "restore/local_sockets.h"
#include "restore/protobuf.h"

enum {
	IMAGE_MAGIC = 0x54564319, /* the same for every kind */
	STREAM_MAGIC = 0x51465506,
	HEADER_BYTES = 12,
	FIELD_OUTQ_LEN = 3,
	FIELD_MSS_CLAMP = 7,
	FIELD_UNSQ_LEN = 12,
	IMAGE_BYTES_MAX = 256 << 20, /* two queues of a socket */
};

static size_t put_varint(uint8_t *out, uint64_t value)
{
	size_t length = 0;
	while (value >= 0x80) {
		out[length++] = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	out[length++] = (uint8_t)value;
	return length;
}

static void put_u32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

struct stream {
	uint64_t outq_len, mss_clamp, unsq_len;
};

static bool read_stream(struct cursor message, struct stream *out)
{
	memset(out, 0, sizeof *out);
	while (message.at < message.end) {
		uint64_t number, value;
		if (!cursor_field(&message, &number, &value))
			return false;
		if (number == FIELD_OUTQ_LEN)
			out->outq_len = value;
		else if (number == FIELD_MSS_CLAMP)
			out->mss_clamp = value;
		else if (number == FIELD_UNSQ_LEN)
			out->unsq_len = value;
	}
	return out->outq_len <= UINT32_MAX && out->mss_clamp <= UINT16_MAX && out->unsq_len <= out->outq_len;
}

/* The message without its unsent length, then the new one. */
static size_t write_stream(struct cursor message, uint8_t *out, uint64_t unsq_len)
{
	size_t length = 0;
	while (message.at < message.end) {
		const uint8_t *from = message.at;
		uint64_t number, value;
		if (!cursor_field(&message, &number, &value))
			abort(); /* read_stream() has read it before */
		if (number == FIELD_UNSQ_LEN)
			continue;
		memcpy(out + length, from, (size_t)(message.at - from));
		length += (size_t)(message.at - from);
	}
	length += put_varint(out + length, FIELD_UNSQ_LEN << 3);
	return length + put_varint(out + length, unsq_len);
}

long tcp_image_rewrite(const uint8_t *image, size_t length, uint64_t segments, uint8_t *out, size_t size)
{
	if (length < HEADER_BYTES || size < length + TCP_IMAGE_GROWTH_BYTES_MAX || get_u32(image) != IMAGE_MAGIC ||
	    get_u32(image + 4) != STREAM_MAGIC)
		return -1;
	uint32_t bytes = get_u32(image + 8);
	if (bytes > length - HEADER_BYTES)
		return -1;
	struct cursor message = { image + HEADER_BYTES, image + HEADER_BYTES + bytes };
	struct stream stream;
	if (!read_stream(message, &stream))
		return -1;
	if (stream.unsq_len == stream.outq_len || stream.outq_len > stream.mss_clamp * segments)
		return 0;
	size_t written = write_stream(message, out + HEADER_BYTES, stream.outq_len);
	memcpy(out, image, 8);
	put_u32(out + 8, (uint32_t)written);
	size_t queues = length - HEADER_BYTES - bytes;
	memcpy(out + HEADER_BYTES + written, message.end, queues);
	return (long)(HEADER_BYTES + written + queues);
}

/* ---- files ---- */

static int replace(int directory, const char *name, const uint8_t *data, size_t length)
{
	static const char temporary[] = "tcp-stream.new";
	int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	int result = disk_write_at(fd, data, length, 0);
	int error = errno;
	close(fd);
	if (result == 0)
		return renameat(directory, temporary, directory, name);
	errno = error;
	return -1;
}

static int rewrite_content(int directory, const char *name, int fd, size_t length, uint64_t segments)
{
	uint8_t *image = malloc(2 * length + TCP_IMAGE_GROWTH_BYTES_MAX);
	if (image == NULL)
		return -1;
	int result = -1;
	errno = EBADMSG;
	if (pread(fd, image, length, 0) == (ssize_t)length) {
		uint8_t *out = image + length;
		long written = tcp_image_rewrite(image, length, segments, out, length + TCP_IMAGE_GROWTH_BYTES_MAX);
		if (written == 0)
			result = 0;
		else if (written > 0)
			result = replace(directory, name, out, (size_t)written) == 0 ? 1 : -1;
	}
	free(image);
	return result;
}

static int rewrite_one(int directory, const char *name, uint64_t segments)
{
	struct stat status;
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -1;
	int result = fstat(fd, &status);
	if (result == 0 && (status.st_size <= 0 || status.st_size > IMAGE_BYTES_MAX)) {
		errno = EBADMSG;
		result = -1;
	}
	if (result == 0)
		result = rewrite_content(directory, name, fd, (size_t)status.st_size, segments);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static int rewrite_all(int directory, DIR *listing, uint64_t segments, const struct local_sockets *local)
{
	int changed = 0;
	for (struct dirent *entry; changed >= 0 && (entry = readdir(listing)) != NULL;) {
		unsigned number;
		if (sscanf(entry->d_name, "tcp-stream-%8x.img", &number) != 1 || local_sockets_has(local, number))
			continue;
		int result = rewrite_one(directory, entry->d_name, segments);
		changed = result < 0 ? -1 : changed + result;
	}
	return changed;
}

int tcp_images_rewrite(int directory, uint64_t segments)
{
	struct local_sockets local;
	DIR *listing = disk_list(directory, ".");
	if (listing == NULL)
		return -1;
	int changed = local_sockets_read(directory, &local) == 0 ? rewrite_all(directory, listing, segments, &local) : -1;
	int error = errno;
	local_sockets_free(&local);
	closedir(listing);
	errno = error;
	return changed;
}
