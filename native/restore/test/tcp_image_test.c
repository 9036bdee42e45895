/* The rewriter of TCP stream images: exact on good ones, contained on hostile ones. */
#include "restore/tcp_image.h"

#include <stdlib.h>

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

int main(void)
{
	RUN(all_output_becomes_unsent);
	RUN(nothing_to_do_is_said_so);
	RUN(more_than_the_first_window_is_left_alone);
	RUN(other_images_are_refused);
	RUN(no_room_is_refused);
	RUN(fuzz_stays_inside);
	return check_report();
}
