#include "restore/local_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "restore/protobuf.h"

enum {
	IMAGE_MAGIC = 0x54564319, /* the same for every kind */
	FILES_MAGIC = 0x56303138,
	HEADER_BYTES = 8,
	FIELD_SOCKET = 4, /* of an entry */
	FIELD_NUMBER = 2, /* of a socket */
	FIELD_FAMILY = 3,
	FIELD_SOURCE = 11,
	FIELD_DESTINATION = 12,
	ADDRESS_WORDS = 4,
	IMAGE_BYTES_MAX = 64 << 20,
};

struct address {
	uint32_t words[ADDRESS_WORDS]; /* as in memory: network byte order */
	unsigned count;
};

static bool add_word(struct address *address, uint64_t word)
{
	if (address->count == ADDRESS_WORDS || word > UINT32_MAX)
		return false;
	address->words[address->count++] = (uint32_t)word;
	return true;
}

static bool is_local(uint64_t family, const struct address *source, const struct address *destination)
{
	uint8_t first = 0;
	memcpy(&first, destination->words, 1);
	if (family == AF_INET && destination->count == 1 && first == 127)
		return true;
	return destination->count > 0 && source->count == destination->count &&
		memcmp(source->words, destination->words, destination->count * sizeof source->words[0]) == 0;
}

static int add(struct local_sockets *sockets, uint64_t number)
{
	if (sockets->count == sockets->room) {
		size_t room = sockets->room == 0 ? 64 : 2 * sockets->room;
		uint32_t *numbers = realloc(sockets->numbers, room * sizeof *numbers);
		if (numbers == NULL)
			return -1;
		sockets->numbers = numbers;
		sockets->room = room;
	}
	sockets->numbers[sockets->count++] = (uint32_t)number;
	return 0;
}

static int read_socket(struct cursor message, struct local_sockets *out)
{
	struct address source = { .count = 0 }, destination = { .count = 0 };
	uint64_t number = 0, family = 0;
	errno = EBADMSG;
	while (message.at < message.end) {
		uint64_t field, value;
		if (!cursor_field(&message, &field, &value))
			return -1;
		if (field == FIELD_NUMBER)
			number = value;
		else if (field == FIELD_FAMILY)
			family = value;
		else if ((field == FIELD_SOURCE && !add_word(&source, value)) || (field == FIELD_DESTINATION && !add_word(&destination, value)))
			return -1;
	}
	if (number > UINT32_MAX)
		return -1;
	return is_local(family, &source, &destination) ? add(out, number) : 0;
}

static int read_entry(struct cursor entry, struct local_sockets *out)
{
	while (entry.at < entry.end) {
		bool string = (*entry.at & 7) == 2;
		uint64_t field, value;
		errno = EBADMSG;
		if (!cursor_field(&entry, &field, &value))
			return -1;
		if (field == FIELD_SOCKET && string && read_socket((struct cursor){ entry.at - value, entry.at }, out) != 0)
			return -1;
	}
	return 0;
}

int local_sockets_of(const uint8_t *image, size_t length, struct local_sockets *out)
{
	struct cursor rest = { image, image + length };
	errno = EBADMSG;
	if (length < HEADER_BYTES || get_u32(image) != IMAGE_MAGIC || get_u32(image + 4) != FILES_MAGIC)
		return -1;
	rest.at += HEADER_BYTES;
	while (rest.at < rest.end) {
		struct cursor entry = rest;
		if (!cursor_skip(&rest, 4) || !cursor_skip(&rest, get_u32(entry.at)))
			return -1;
		entry.at += 4;
		entry.end = rest.at;
		if (read_entry(entry, out) != 0)
			return -1;
		errno = EBADMSG;
	}
	return 0;
}

static int read_content(int fd, struct local_sockets *out)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		return -1;
	errno = EBADMSG;
	if (status.st_size <= 0 || status.st_size > IMAGE_BYTES_MAX)
		return -1;
	uint8_t *image = malloc((size_t)status.st_size);
	if (image == NULL)
		return -1;
	errno = EBADMSG;
	int result = -1;
	if (pread(fd, image, (size_t)status.st_size, 0) == (ssize_t)status.st_size)
		result = local_sockets_of(image, (size_t)status.st_size, out);
	int error = errno;
	free(image);
	errno = error;
	return result;
}

int local_sockets_read(int directory, struct local_sockets *out)
{
	*out = (struct local_sockets){ .numbers = NULL };
	int fd = openat(directory, "files.img", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	int result = read_content(fd, out);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

bool local_sockets_has(const struct local_sockets *sockets, uint32_t number)
{
	for (size_t i = 0; i < sockets->count; i++)
		if (sockets->numbers[i] == number)
			return true;
	return false;
}

void local_sockets_free(struct local_sockets *sockets)
{
	free(sockets->numbers);
	*sockets = (struct local_sockets){ .numbers = NULL };
}
