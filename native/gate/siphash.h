/* SipHash-2-4 (Aumasson and Bernstein), 64-bit: authenticates heartbeats. */
#ifndef FT_GATE_SIPHASH_H
#define FT_GATE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_BYTES 16

uint64_t siphash(const unsigned char key[SIPHASH_KEY_BYTES], const void *data, size_t length);

#endif
