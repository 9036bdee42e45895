/* The list of what is given later, and the areas it is made from: as written, and from hostile bytes. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "epoch/format.h"
#include "pages/lazy.h"
#include "pages/mm.h"
#include "pages/records.h"
#include "test/check.h"

static char folder[] = "/tmp/lazy-test-XXXXXX";

static int write_list(int directory)
{
	struct lazy_writer w = { 0 };
	const uint32_t sum[4] = { 11, 12, 13, 14 };
	int result = lazy_begin_set(&w, 3) != 0 || lazy_add_run(&w, 0x1000, 2, sum) != 0 || lazy_add_run(&w, 0x8000, 1, sum + 2) != 0 ||
		     lazy_end_set(&w) != 0 || lazy_begin_set(&w, 7) != 0 || lazy_end_set(&w) != 0 || lazy_begin_set(&w, 9) != 0 ||
		     lazy_add_run(&w, 0x7fff00000000, 1, sum + 3) != 0 || lazy_end_set(&w) != 0 || lazy_write(&w, directory) != 0;
	lazy_free(&w);
	return result;
}

static uint8_t *read_all(int directory, size_t *length)
{
	static uint8_t bytes[4096];
	int fd = openat(directory, LAZY_LIST_NAME, O_RDONLY);
	ssize_t got = read(fd, bytes, sizeof bytes);
	close(fd);
	*length = got < 0 ? 0 : (size_t)got;
	return bytes;
}

static struct lazy_list *parse_copy(const uint8_t *bytes, size_t length, struct epoch_error *e)
{
	uint8_t *copy = malloc(length + LAZY_HEADER_BYTES);
	memcpy(copy, bytes, length);
	return lazy_parse(copy, length, e);
}

TEST(a_list_is_read_as_it_was_written)
{
	struct epoch_error e = { .code = "" };
	int directory = open(folder, O_RDONLY | O_DIRECTORY);
	CHECK_EQ(write_list(directory), 0);
	struct lazy_list *list = lazy_read(directory, &e);
	close(directory);
	CHECK(list != NULL);
	CHECK_EQ(list->sets, 3);
	CHECK_EQ(list->pages, 4);
	uint32_t sum = 0;
	CHECK(lazy_sum(lazy_find(list, 3), 0x2000, &sum));
	CHECK_EQ(sum, 12);
	CHECK(lazy_sum(lazy_find(list, 3), 0x8000, &sum));
	CHECK_EQ(sum, 13);
	CHECK(!lazy_sum(lazy_find(list, 3), 0x3000, &sum));
	CHECK(!lazy_sum(lazy_find(list, 7), 0x1000, &sum));
	CHECK(lazy_sum(lazy_find(list, 9), 0x7fff00000000, &sum));
	CHECK_EQ(sum, 14);
	CHECK(lazy_find(list, 8) == NULL);
	lazy_list_free(list);
}

/* Every bit that is turned is seen; and with sums that fit again, nothing outside is touched (the sanitizers watch). */
TEST(no_bytes_are_believed)
{
	struct epoch_error e = { .code = "" };
	size_t length;
	int directory = open(folder, O_RDONLY | O_DIRECTORY);
	uint8_t *bytes = read_all(directory, &length);
	close(directory);
	for (size_t bit = 0; bit < length * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(parse_copy(bytes, length, &e) == NULL);
		put_u32(bytes + 24, ft_crc32c(0, bytes + LAZY_HEADER_BYTES, length - LAZY_HEADER_BYTES));
		put_u32(bytes + 28, ft_crc32c(0, bytes, 28));
		lazy_list_free(parse_copy(bytes, length, &e));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		put_u32(bytes + 24, ft_crc32c(0, bytes + LAZY_HEADER_BYTES, length - LAZY_HEADER_BYTES));
		put_u32(bytes + 28, ft_crc32c(0, bytes, 28));
	}
	for (size_t shorter = 0; shorter < length; shorter++)
		CHECK(parse_copy(bytes, shorter, &e) == NULL);
}

static size_t put_varint(uint8_t *out, uint64_t value)
{
	size_t length = 0;
	for (; value >= 0x80; value >>= 7)
		out[length++] = (uint8_t)(value | 0x80);
	out[length++] = (uint8_t)value;
	return length;
}

static size_t put_area(uint8_t *out, uint64_t start, uint64_t end, uint64_t flags, uint64_t status, uint64_t advice)
{
	const uint64_t field[][2] = { { 1, start }, { 2, end }, { 6, flags }, { 7, status }, { 9, advice } };
	uint8_t message[80];
	size_t length = 0, at = 0;
	for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
		message[length++] = (uint8_t)(field[i][0] << 3);
		length += put_varint(message + length, field[i][1]);
	}
	out[at++] = 14 << 3 | 2;
	at += put_varint(out + at, length);
	memcpy(out + at, message, length);
	return at + length;
}

static size_t mm_image(uint8_t *out)
{
	const uint64_t own = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t at = 12;
	out[at++] = 1 << 3;
	at += put_varint(out + at, 0x400000);
	at += put_area(out + at, 0x1000, 0x3000, own, 0x201, 0);
	at += put_area(out + at, 0x3000, 0x4000, own | MAP_LOCKED, 0x201, 0);
	at += put_area(out + at, 0x5000, 0x6000, MAP_PRIVATE, 0x41, 0);
	at += put_area(out + at, 0x6000, 0x7000, own, 0x201, 1 << 18);
	at += put_area(out + at, 0x8000, 0x9000, own, 0x201 | 1 << 3, 0);
	at += put_area(out + at, 0xa000, 0xf000, own, 0x201, 0);
	at += put_area(out + at, 0xffffffffff600000, 0xffffffffff601000, MAP_PRIVATE, 4, 0);
	put_u32(out, 0x54564319);
	put_u32(out + 4, 0x57492820);
	put_u32(out + 8, (uint32_t)(at - 12));
	return at;
}

TEST(only_areas_that_criu_gives_away_are_lazy)
{
	uint8_t bytes[512];
	struct mm_area *area;
	size_t count, length = mm_image(bytes);
	CHECK_EQ(mm_lazy_areas(bytes, length, &area, &count), 0);
	CHECK_EQ(count, 2);
	CHECK_EQ(area[0].start, 0x1000);
	CHECK_EQ(area[0].end, 0x3000);
	CHECK_EQ(area[1].end, 0xf000);
	free(area);
	for (size_t bit = 0; bit < length * 8; bit++) {
		uint8_t *copy = malloc(length);
		memcpy(copy, bytes, length);
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (mm_lazy_areas(copy, length, &area, &count) == 0) {
			for (size_t i = 0; i < count; i++)
				CHECK(area[i].start < area[i].end && (i == 0 || area[i - 1].end <= area[i].start));
			free(area);
		}
		free(copy);
	}
}

int main(void)
{
	if (mkdtemp(folder) == NULL)
		return 1;
	RUN(a_list_is_read_as_it_was_written);
	RUN(no_bytes_are_believed);
	RUN(only_areas_that_criu_gives_away_are_lazy);
	char path[64];
	snprintf(path, sizeof path, "%s/%s", folder, LAZY_LIST_NAME);
	unlink(path);
	rmdir(folder);
	return check_report();
}
