/* CRC32C (Castagnoli). Uses the processor's instruction where there is one, a table elsewhere; same result. */
#ifndef FT_CRC32C_H
#define FT_CRC32C_H
#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to start) over `length` bytes. Chains: crc(A then B) = ft_crc32c(ft_crc32c(0, A), B). Never fails. */
uint32_t ft_crc32c(uint32_t crc, const void *data, size_t length);

/* The portable way, for tests and for processors without SSE4.2. */
uint32_t ft_crc32c_table(uint32_t crc, const void *data, size_t length);

/* crc(A then B) from crc(A), crc(B) and the length of B in bytes, without the bytes. */
uint32_t ft_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b_bytes);

/* The same for blocks of exactly 4096 bytes: a few table look-ups, so a file's crc can be kept from its blocks'. */
uint32_t ft_crc32c_combine_4096(uint32_t crc_a, uint32_t crc_b);
#endif
