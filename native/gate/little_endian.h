/* Numbers in datagrams between gates: little endian, at any address. */
#ifndef FT_GATE_LITTLE_ENDIAN_H
#define FT_GATE_LITTLE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void put64(unsigned char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof value);
}

static inline uint64_t get64(const unsigned char *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof value);
	return le64toh(value);
}

#endif
