/*
 * The bytes that one side of a connection has sent, put in order: from `start` (what the application has not read
 * yet, or what was trimmed) to `next`, and islands beyond it that came out of order. Positions count from the stream's
 * first byte and never wrap.
 *
 * Invariants:
 *  - start ≤ next; [start, next) is whole.
 *  - Islands are sorted, do not touch one another nor `next`, and are at most STREAM_ISLANDS_MAX.
 *  - Bytes live in chunks of a pool of fixed size; chunk i of a stream holds the positions
 *    [(first + i) × CHUNK_BYTES, …). A byte that is there is never written again: the first to come wins.
 *  - All room is given back by stream_clear(). Nothing is allocated after pool_open().
 */
#ifndef FT_LIVE_STREAM_H
#define FT_LIVE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHUNK_BYTES = 4096, STREAM_ISLANDS_MAX = 64 };
#define CHUNK_NONE UINT32_MAX
#define STREAM_AHEAD_BYTES_MAX (64u << 20)

struct pool {
	uint8_t *bytes;
	uint32_t *following; /* the chunk after this one, of its stream or of the free ones */
	uint32_t chunks, free, free_first, untouched;
};

struct island {
	uint64_t from, to;
};

struct stream {
	uint64_t start, next;
	uint64_t first; /* number of the first chunk, by position; of use when there is one */
	uint32_t head, tail, chunks;
	uint32_t next_chunk; /* the one that holds `next` - or would; CHUNK_NONE: look for it */
	uint32_t islands;
	struct island *island; /* STREAM_ISLANDS_MAX, of the owner */
};

int pool_open(struct pool *pool, uint32_t chunks);
void pool_close(struct pool *pool);

void stream_begin(struct stream *stream, struct island *islands, uint64_t position);
void stream_clear(struct stream *stream, struct pool *pool);
/*
 * Adds bytes at `position`. What is before `next` is left out. False: there is no room (the pool, the islands, or too far
 * ahead), and nothing of it was taken: the sender will send it again, or the caller gives up.
 */
bool stream_add(struct stream *stream, struct pool *pool, uint64_t position, const uint8_t *bytes, size_t length);
/* The application has read up to there: not beyond `next`. */
void stream_trim(struct stream *stream, struct pool *pool, uint64_t position);
/* Copies [position, position + length), which must be within [start, next). */
void stream_copy(const struct stream *stream, const struct pool *pool, uint64_t position, uint8_t *out, size_t length);

#endif
