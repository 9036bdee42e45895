#include "crc/crc32c.h"
#include "test/check.h"

#include <stdlib.h>

/* RFC 3720, appendix B.4. */
TEST(known_vectors)
{
	uint8_t bytes[32];
	CHECK_EQ(ft_crc32c(0, "123456789", 9), 0xe3069283u);
	memset(bytes, 0, sizeof bytes);
	CHECK_EQ(ft_crc32c(0, bytes, 32), 0x8a9136aau);
	memset(bytes, 0xff, sizeof bytes);
	CHECK_EQ(ft_crc32c(0, bytes, 32), 0x62a8ab43u);
	for (int i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	CHECK_EQ(ft_crc32c(0, bytes, 32), 0x46dd794eu);
	CHECK_EQ(ft_crc32c_table(0, bytes, 32), 0x46dd794eu);
	CHECK_EQ(ft_crc32c(7, bytes, 0), 7);
}

/* One bit at a time, the definition. */
static uint32_t by_definition(const uint8_t *at, size_t length)
{
	uint32_t crc = ~0u;
	while (length-- > 0) {
		crc ^= *at++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
	}
	return ~crc;
}

TEST(both_ways_and_combinations_agree)
{
	enum { SIZE = 40000 };
	uint8_t *bytes = malloc(SIZE);
	uint64_t seed = 42;
	int bad = 0;
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (uint8_t)check_random(&seed);
	for (int round = 0; round < 300; round++) {
		size_t start = check_random(&seed) % 64, length = check_random(&seed) % (SIZE - 64);
		size_t cut = length ? check_random(&seed) % length : 0;
		uint32_t want = by_definition(bytes + start, length);
		uint32_t a = ft_crc32c(0, bytes + start, cut), b = ft_crc32c(0, bytes + start + cut, length - cut);
		bad |= ft_crc32c(0, bytes + start, length) != want;
		bad |= ft_crc32c_table(0, bytes + start, length) != want;
		bad |= ft_crc32c(a, bytes + start + cut, length - cut) != want;
		bad |= ft_crc32c_combine(a, b, length - cut) != want;
	}
	uint32_t a = ft_crc32c(0, bytes, 5000), b = ft_crc32c(0, bytes + 5000, 4096);
	bad |= ft_crc32c_combine_4096(a, b) != ft_crc32c(0, bytes, 9096);
	free(bytes);
	CHECK(!bad);
}

int main(void)
{
	RUN(known_vectors);
	RUN(both_ways_and_combinations_agree);
	return check_report();
}
