/*
 * A 128-bit hash of a block of at most 4 KiB that stands for its content.
 *
 * NH (the universal hash inside UMAC) over 64-bit words, twice with shifted keys, each result folded to 64 bits by a strongly
 * universal multilinear hash. The keys are random, made once a process, and never leave it. For any two different blocks of
 * one length, whatever they are as long as they were not chosen with knowledge of the keys, the probability of equal hashes is
 * below 2^-125: a thousand million comparisons a second for a thousand million years stay below 2^-40. And it runs at the speed
 * of memory, which a cryptographic hash does not.
 */
#ifndef FT_FILES_HASH_H
#define FT_FILES_HASH_H
#include <stddef.h>
#include <stdint.h>

#define HASH_BLOCK_BYTES 4096u

struct block_hash {
	uint64_t low, high;
};
struct hash_key {
	uint64_t word[HASH_BLOCK_BYTES / 8 + 2];
	unsigned __int128 fold[2][3];
};

/* Fills a key from the kernel's randomness. -1 with errno. */
int hash_key_make(struct hash_key *key);
/* Hashes 0 … 4096 bytes. The length is not part of the hash: compare blocks of equal length only. */
struct block_hash hash_block(const struct hash_key *key, const uint8_t *bytes, size_t length);
static inline int hash_equal(struct block_hash a, struct block_hash b)
{
	return a.low == b.low && a.high == b.high;
}
#endif
