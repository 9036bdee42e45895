#include "crc/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u
/* Three lanes of this many bytes make the instruction's latency disappear; 3 * 1344 is just under a 4 KiB block. */
#define LANE_BYTES 1344

/* Appending a fixed number of zero bytes, as four look-ups. */
struct shift {
	uint32_t table[4][256];
};

static uint32_t byte_table[8][256];
static struct shift shift_lane, shift_4096;
static int have_instruction;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

/* a * b modulo the polynomial, bits reflected. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
	uint32_t product = 0;
	for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
		if (a & bit)
			product ^= b;
		b = b & 1 ? (b >> 1) ^ POLYNOMIAL : b >> 1;
	}
	return product;
}

/* x^(8 * bytes) modulo the polynomial. */
static uint32_t power_of_bytes(uint64_t bytes)
{
	uint32_t result = 1u << 31, square = 1u << 23; /* 1 and x^8 */
	for (; bytes != 0; bytes >>= 1) {
		if (bytes & 1)
			result = multiply(result, square);
		square = multiply(square, square);
	}
	return result;
}

static void shift_prepare(struct shift *shift, uint64_t bytes)
{
	uint32_t power = power_of_bytes(bytes);
	for (unsigned lane = 0; lane < 4; lane++)
		for (uint32_t value = 0; value < 256; value++)
			shift->table[lane][value] = multiply(power, value << (8 * lane));
}

static uint32_t shift_apply(const struct shift *shift, uint32_t crc)
{
	return shift->table[0][crc & 255] ^ shift->table[1][(crc >> 8) & 255] ^ shift->table[2][(crc >> 16) & 255] ^
	       shift->table[3][crc >> 24];
}

static void prepare(void)
{
	for (uint32_t value = 0; value < 256; value++) {
		uint32_t crc = value;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
		byte_table[0][value] = crc;
	}
	for (unsigned n = 1; n < 8; n++)
		for (uint32_t value = 0; value < 256; value++) {
			uint32_t before = byte_table[n - 1][value];
			byte_table[n][value] = (before >> 8) ^ byte_table[0][before & 255];
		}
	shift_prepare(&shift_lane, LANE_BYTES);
	shift_prepare(&shift_4096, 4096);
#ifdef __x86_64__
	have_instruction = __builtin_cpu_supports("sse4.2");
#endif
}

static uint64_t load_u64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, 8);
	return value;
}

uint32_t ft_crc32c_table(uint32_t crc, const void *data, size_t length)
{
	pthread_once(&prepared, prepare);
	const uint8_t *at = data;
	crc = ~crc;
	for (; length >= 8; length -= 8, at += 8) {
		uint64_t word = load_u64(at) ^ crc;
		crc = 0;
		for (unsigned n = 0; n < 8; n++)
			crc ^= byte_table[7 - n][(word >> (8 * n)) & 255];
	}
	for (; length > 0; length--)
		crc = (crc >> 8) ^ byte_table[0][(crc ^ *at++) & 255];
	return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_instruction(uint32_t crc, const uint8_t *at, size_t length)
{
	uint64_t a = (uint32_t)~crc;
	for (; length >= 3 * LANE_BYTES; length -= 3 * LANE_BYTES, at += 3 * LANE_BYTES) {
		uint64_t b = 0, c = 0;
		for (size_t i = 0; i < LANE_BYTES; i += 8) {
			a = __builtin_ia32_crc32di(a, load_u64(at + i));
			b = __builtin_ia32_crc32di(b, load_u64(at + LANE_BYTES + i));
			c = __builtin_ia32_crc32di(c, load_u64(at + 2 * LANE_BYTES + i));
		}
		a = shift_apply(&shift_lane, (uint32_t)a) ^ b;
		a = shift_apply(&shift_lane, (uint32_t)a) ^ c;
	}
	for (; length >= 8; length -= 8, at += 8)
		a = __builtin_ia32_crc32di(a, load_u64(at));
	for (; length > 0; length--)
		a = __builtin_ia32_crc32qi((uint32_t)a, *at++);
	return ~(uint32_t)a;
}
#endif

uint32_t ft_crc32c(uint32_t crc, const void *data, size_t length)
{
	pthread_once(&prepared, prepare);
#ifdef __x86_64__
	if (have_instruction)
		return crc_instruction(crc, data, length);
#endif
	return ft_crc32c_table(crc, data, length);
}

uint32_t ft_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b_bytes)
{
	return multiply(power_of_bytes(length_b_bytes), crc_a) ^ crc_b;
}

uint32_t ft_crc32c_combine_4096(uint32_t crc_a, uint32_t crc_b)
{
	pthread_once(&prepared, prepare);
	return shift_apply(&shift_4096, crc_a) ^ crc_b;
}
