#include "files/hash.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

int hash_key_make(struct hash_key *key)
{
	uint8_t *at = (uint8_t *)key;
	for (size_t done = 0; done < sizeof *key;) {
		ssize_t got = getrandom(at + done, sizeof *key - done, 0);
		if (got < 0 && errno != EINTR)
			return -1;
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

static uint64_t word_at(const uint8_t *bytes)
{
	uint64_t word;
	memcpy(&word, bytes, 8);
	return word;
}

static uint64_t fold(const unsigned __int128 *key, unsigned __int128 value)
{
	return (uint64_t)((key[0] + key[1] * (uint64_t)value + key[2] * (uint64_t)(value >> 64)) >> 64);
}

struct block_hash hash_block(const struct hash_key *key, const uint8_t *bytes, size_t length)
{
	unsigned __int128 first = 0, second = 0;
	const uint64_t *k = key->word;
	uint8_t tail[16] = {0};
	size_t whole = length & ~(size_t)15;
	for (size_t at = 0; at < whole; at += 16, k += 2) {
		uint64_t a = word_at(bytes + at), b = word_at(bytes + at + 8);
		first += (unsigned __int128)(a + k[0]) * (b + k[1]);
		second += (unsigned __int128)(a + k[2]) * (b + k[3]);
	}
	if (length > whole) {
		memcpy(tail, bytes + whole, length - whole);
		uint64_t a = word_at(tail), b = word_at(tail + 8);
		first += (unsigned __int128)(a + k[0]) * (b + k[1]);
		second += (unsigned __int128)(a + k[2]) * (b + k[3]);
	}
	return (struct block_hash){fold(key->fold[0], first), fold(key->fold[1], second)};
}
