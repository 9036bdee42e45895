/*
 * Encrypts and authenticates datagrams between the two gates of a pair: AES-128-GCM under a key that is derived from the pair's key and
 * from both gates' incarnations, random numbers that each draws when it starts. So what was recorded of an earlier life of either
 * opens nowhere, and a number used twice within a life would be the only way to a nonce used twice: it is the caller's to count.
 */
#ifndef FT_GATE_SEAL_H
#define FT_GATE_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gate/siphash.h"

#define SEAL_TAG_BYTES 16u

struct seal {
	void *context; /* of the library; NULL: no key yet */
	uint64_t from, to;
};

/* From the gate `from` to the gate `to`. Does nothing when it is so already. */
bool seal_key(struct seal *seal, const unsigned char key[SIPHASH_KEY_BYTES], const char *pair, uint64_t from, uint64_t to);
/* In place; the tag goes behind. The header is authenticated only. */
bool seal_close(struct seal *seal, uint64_t number, const void *header, size_t header_bytes, unsigned char *bytes, size_t length);
/* Likewise; false: not authentic, and `bytes` mean nothing. */
bool seal_open(struct seal *seal, uint64_t number, const void *header, size_t header_bytes, unsigned char *bytes, size_t length);
void seal_end(struct seal *seal);

#endif
