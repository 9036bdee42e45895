/* CRC32C without the look-ups at first use of native/crc for what is short, as most outputs and records are. */
#include "recorder/recorder.h"

#include "crc/crc32c.h"

static uint32_t continued(uint32_t crc, const void *bytes, size_t count)
{
#ifdef __x86_64__
	if (count < 512 && __builtin_cpu_supports("sse4.2")) {
		const uint8_t *at = bytes;
		uint64_t value = ~crc;
		for (; count >= 8; count -= 8, at += 8) {
			uint64_t word;
			memcpy(&word, at, 8);
			__asm__("crc32q %1, %0" : "+r"(value) : "r"(word));
		}
		for (; count > 0; count--, at++)
			__asm__("crc32b %1, %k0" : "+r"(value) : "r"(*at));
		return ~(uint32_t)value;
	}
#endif
	return ft_crc32c(crc, bytes, count);
}

uint32_t ft_checksum_more(uint32_t crc, const void *bytes, size_t count) { return continued(crc, bytes, count); }

uint32_t ft_checksum(const void *bytes, size_t count)
{
	return continued(0, bytes, count);
}

uint32_t ft_checksum_of(const struct iovec *vector, int count, size_t *total)
{
	uint32_t crc = 0;
	*total = 0;
	for (int i = 0; i < count; i++) {
		crc = continued(crc, vector[i].iov_base, vector[i].iov_len);
		*total += vector[i].iov_len;
	}
	return crc;
}
