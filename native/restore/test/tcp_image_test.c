/* The rewriter of TCP stream images: exact on good ones, contained on hostile ones. */
#include "restore/tcp_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "restore/local_sockets.h"

#include "test/check.h"

struct builder {
	uint8_t bytes[512];
	size_t length;
};

static void put(struct builder *builder, uint8_t byte)
{
	builder->bytes[builder->length++] = byte;
}

static void put_number(struct builder *builder, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		put(builder, (uint8_t)(value | 0x80));
	put(builder, (uint8_t)value);
}

static void put_field(struct builder *builder, unsigned number, uint64_t value)
{
	put_number(builder, number << 3);
	put_number(builder, value);
}

/* As CRIU writes it: `unsq` of `outq` bytes of output are unsent; both queues follow. */
static struct builder image_of(uint32_t outq, uint32_t unsq, uint32_t mss)
{
	static const uint8_t magic[8] = { 0x19, 0x43, 0x56, 0x54, 0x06, 0x55, 0x46, 0x51 };
	struct builder image = { .length = 12 };
	memcpy(image.bytes, magic, sizeof magic);
	put_field(&image, 1, 3);
	put_field(&image, 2, 4000000000u);
	put_field(&image, 3, outq);
	put_field(&image, 4, 77);
	put_field(&image, 5, 7);
	put_field(&image, 7, mss);
	put_field(&image, 12, unsq);
	put_field(&image, 14, 65535);
	image.bytes[8] = (uint8_t)(image.length - 12);
	for (uint32_t i = 0; i < 3 + outq && i < 200; i++)
		put(&image, (uint8_t)('a' + i % 26));
	return image;
}

static uint8_t out[1024];

TEST(all_output_becomes_unsent)
{
	struct builder image = image_of(100, 4, 1460);
	long length = tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out);
	CHECK_EQ(length, image.length);
	CHECK_EQ(memcmp(out, image.bytes, 8), 0);
	/* The field moved to the end of the message; the queues are as they were. */
	CHECK_EQ(memcmp(out + length - 103, image.bytes + image.length - 103, 103), 0);
	CHECK_EQ(out[length - 103 - 2], 12 << 3);
	CHECK_EQ(out[length - 103 - 1], 100);
	CHECK_EQ(tcp_image_rewrite(out, (size_t)length, 10, image.bytes, sizeof image.bytes), 0);
}

TEST(nothing_to_do_is_said_so)
{
	struct builder image = image_of(0, 0, 1460);
	CHECK_EQ(tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out), 0);
	image = image_of(50, 50, 1460);
	CHECK_EQ(tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out), 0);
}

TEST(more_than_the_first_window_is_left_alone)
{
	struct builder image = image_of(101, 0, 10);
	CHECK_EQ(tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out), 0);
	image = image_of(100, 0, 10);
	CHECK(tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out) > 0);
}

TEST(other_images_are_refused)
{
	struct builder image = image_of(100, 4, 1460);
	image.bytes[4] ^= 1;
	CHECK_EQ(tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out), -1);
	image = image_of(100, 4, 1460);
	image.bytes[8] = 255;
	CHECK_EQ(tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out), -1);
	image = image_of(4, 5, 1460); /* more unsent than there is */
	CHECK_EQ(tcp_image_rewrite(image.bytes, image.length, 10, out, sizeof out), -1);
}

TEST(no_room_is_refused)
{
	struct builder image = image_of(100, 4, 1460);
	CHECK_EQ(tcp_image_rewrite(image.bytes, image.length, 10, out, image.length), -1);
}

TEST(fuzz_stays_inside)
{
	uint64_t seed = 42;
	for (int round = 0; round < 50000; round++) {
		struct builder image = image_of((uint32_t)(check_random(&seed) % 150), 0, 1460);
		size_t length = check_random(&seed) % 3 == 0 ? check_random(&seed) % image.length : image.length;
		for (int i = 0; i < 4; i++)
			image.bytes[8 + check_random(&seed) % (image.length - 8)] = (uint8_t)check_random(&seed);
		uint8_t *exact = malloc(length + 1), *room = malloc(length + TCP_IMAGE_GROWTH_BYTES_MAX);
		memcpy(exact, image.bytes, length);
		long written = tcp_image_rewrite(exact, length, 10, room, length + TCP_IMAGE_GROWTH_BYTES_MAX);
		CHECK(written <= (long)(length + TCP_IMAGE_GROWTH_BYTES_MAX));
		free(exact);
		free(room);
	}
}

/* An entry of files.img: a socket with both addresses (network byte order, as in memory). */
static void put_socket(struct builder *image, uint32_t number, uint32_t source, uint32_t destination)
{
	struct builder socket = { .length = 0 }, entry = { .length = 0 };
	put_field(&socket, 1, 9);
	put_field(&socket, 2, number);
	put_field(&socket, 3, 2);
	put_field(&socket, 11, source);
	put_field(&socket, 12, destination);
	put_field(&entry, 1, 4);
	put_field(&entry, 2, 9);
	put_number(&entry, 4 << 3 | 2);
	put_number(&entry, socket.length);
	memcpy(entry.bytes + entry.length, socket.bytes, socket.length);
	entry.length += socket.length;
	for (int i = 0; i < 4; i++)
		put(image, (uint8_t)(entry.length >> 8 * i));
	memcpy(image->bytes + image->length, entry.bytes, entry.length);
	image->length += entry.length;
}

enum { LOOPBACK = 0x0100007f, LOOPBACK_2 = 0x0200007f, OURS = 0x64004d0a, CLIENT = 0x01004d0a };

static struct builder files_image(void)
{
	static const uint8_t magic[8] = { 0x19, 0x43, 0x56, 0x54, 0x38, 0x31, 0x30, 0x56 };
	struct builder image = { .length = 8 };
	memcpy(image.bytes, magic, sizeof magic);
	put_socket(&image, 0xa1, OURS, CLIENT);
	put_socket(&image, 0xa2, LOOPBACK, LOOPBACK);
	put_socket(&image, 0xa3, LOOPBACK, LOOPBACK_2);
	put_socket(&image, 0xa4, OURS, OURS);
	return image;
}

TEST(connections_with_itself_are_known)
{
	struct builder image = files_image();
	struct local_sockets found = { .count = 0 };
	CHECK_EQ(local_sockets_of(image.bytes, image.length, &found), 0);
	CHECK_EQ(found.count, 3);
	CHECK(!local_sockets_has(&found, 0xa1));
	CHECK(local_sockets_has(&found, 0xa2) && local_sockets_has(&found, 0xa3) && local_sockets_has(&found, 0xa4));
	local_sockets_free(&found);
	CHECK_EQ(local_sockets_of(image.bytes, image.length - 1, &found), -1);
	CHECK_EQ(errno, EBADMSG);
	local_sockets_free(&found);
}

static void write_file(int directory, const char *name, const struct builder *image)
{
	int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK_EQ(write(fd, image->bytes, image->length), image->length);
	close(fd);
}

TEST(output_to_itself_is_left_alone)
{
	char path[] = "/tmp/ft-tcp-images-XXXXXX";
	CHECK(mkdtemp(path) != NULL);
	int directory = open(path, O_RDONLY | O_DIRECTORY);
	struct builder files = files_image(), stream = image_of(100, 4, 1460);
	write_file(directory, "tcp-stream-a1.img", &stream);
	write_file(directory, "tcp-stream-a2.img", &stream);
	write_file(directory, "files.img", &files);
	CHECK_EQ(tcp_images_rewrite(directory, 10), 1);
	/* Now only the other is as it was; and without files.img nothing is known to be local. */
	CHECK_EQ(tcp_images_rewrite(directory, 10), 0);
	unlinkat(directory, "files.img", 0);
	CHECK_EQ(tcp_images_rewrite(directory, 10), 1);
	write_file(directory, "files.img", &stream);
	CHECK_EQ(tcp_images_rewrite(directory, 10), -1);
	for (const char *const *name = (const char *const[]){ "tcp-stream-a1.img", "tcp-stream-a2.img", "files.img", NULL }; *name; name++)
		unlinkat(directory, *name, 0);
	close(directory);
	CHECK_EQ(rmdir(path), 0);
}

TEST(fuzz_of_sockets_stays_inside)
{
	uint64_t seed = 43;
	for (int round = 0; round < 50000; round++) {
		struct builder image = files_image();
		struct local_sockets found = { .count = 0 };
		size_t length = check_random(&seed) % 3 == 0 ? check_random(&seed) % image.length : image.length;
		for (int i = 0; i < 4; i++)
			image.bytes[8 + check_random(&seed) % (image.length - 8)] = (uint8_t)check_random(&seed);
		uint8_t *exact = malloc(length + 1);
		memcpy(exact, image.bytes, length);
		int result = local_sockets_of(exact, length, &found);
		CHECK(result == 0 || errno == EBADMSG);
		free(exact);
		local_sockets_free(&found);
	}
}

int main(void)
{
	RUN(all_output_becomes_unsent);
	RUN(nothing_to_do_is_said_so);
	RUN(more_than_the_first_window_is_left_alone);
	RUN(other_images_are_refused);
	RUN(no_room_is_refused);
	RUN(fuzz_stays_inside);
	RUN(connections_with_itself_are_known);
	RUN(output_to_itself_is_left_alone);
	RUN(fuzz_of_sockets_stays_inside);
	return check_report();
}
