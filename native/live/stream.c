#include "live/stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int pool_open(struct pool *pool, uint32_t chunks)
{
	memset(pool, 0, sizeof *pool);
	/* Mapped, not touched: memory is taken when it is needed for the first time. */
	pool->bytes = mmap(NULL, (size_t)chunks * CHUNK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pool->following = mmap(NULL, (size_t)chunks * sizeof *pool->following, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pool->chunks = pool->free = chunks;
	pool->free_first = CHUNK_NONE;
	if (pool->bytes != MAP_FAILED && pool->following != MAP_FAILED)
		return 0;
	if (pool->bytes != MAP_FAILED)
		munmap(pool->bytes, (size_t)chunks * CHUNK_BYTES);
	if (pool->following != MAP_FAILED)
		munmap(pool->following, (size_t)chunks * sizeof *pool->following);
	memset(pool, 0, sizeof *pool);
	return -1;
}

void pool_close(struct pool *pool)
{
	if (pool->chunks == 0)
		return;
	munmap(pool->bytes, (size_t)pool->chunks * CHUNK_BYTES);
	munmap(pool->following, (size_t)pool->chunks * sizeof *pool->following);
	memset(pool, 0, sizeof *pool);
}

static uint32_t chunk_take(struct pool *pool)
{
	assert(pool->free > 0);
	uint32_t chunk = pool->free_first;
	if (chunk != CHUNK_NONE)
		pool->free_first = pool->following[chunk];
	else
		chunk = pool->untouched++;
	pool->free--;
	pool->following[chunk] = CHUNK_NONE;
	return chunk;
}

static void chunk_give(struct pool *pool, uint32_t chunk)
{
	pool->following[chunk] = pool->free_first;
	pool->free_first = chunk;
	pool->free++;
}

void stream_begin(struct stream *stream, struct island *islands, uint64_t position)
{
	*stream = (struct stream){ .start = position, .next = position, .head = CHUNK_NONE, .tail = CHUNK_NONE,
				   .next_chunk = CHUNK_NONE, .island = islands };
}

static void drop_first(struct stream *stream, struct pool *pool)
{
	uint32_t chunk = stream->head;
	stream->head = pool->following[chunk];
	stream->first++;
	stream->chunks--;
	if (stream->next_chunk == chunk)
		stream->next_chunk = stream->head;
	if (stream->head == CHUNK_NONE)
		stream->tail = CHUNK_NONE;
	chunk_give(pool, chunk);
}

void stream_clear(struct stream *stream, struct pool *pool)
{
	while (stream->chunks > 0)
		drop_first(stream, pool);
	stream_begin(stream, stream->island, stream->next);
}

/* Makes chunks so that [next, end) has room. */
static bool reach(struct stream *stream, struct pool *pool, uint64_t end)
{
	if (stream->chunks == 0)
		stream->first = stream->next / CHUNK_BYTES;
	uint64_t wanted = (end + CHUNK_BYTES - 1) / CHUNK_BYTES - stream->first;
	if (wanted <= stream->chunks)
		return true;
	if (wanted - stream->chunks > pool->free)
		return false;
	while (stream->chunks < wanted) {
		uint32_t chunk = chunk_take(pool);
		if (stream->tail == CHUNK_NONE)
			stream->head = chunk;
		else
			pool->following[stream->tail] = chunk;
		stream->tail = chunk;
		if (stream->next_chunk == CHUNK_NONE && stream->first + stream->chunks == stream->next / CHUNK_BYTES)
			stream->next_chunk = chunk;
		stream->chunks++;
	}
	return true;
}

static uint32_t find_chunk(const struct stream *stream, const struct pool *pool, uint64_t position)
{
	uint64_t number = position / CHUNK_BYTES, at = stream->first;
	uint32_t chunk = stream->head;
	/* Most often at or after `next`. */
	if (stream->next_chunk != CHUNK_NONE && number >= stream->next / CHUNK_BYTES) {
		chunk = stream->next_chunk;
		at = stream->next / CHUNK_BYTES;
	}
	for (; at < number; at++)
		chunk = pool->following[chunk];
	assert(chunk != CHUNK_NONE);
	return chunk;
}

static void put(struct stream *stream, struct pool *pool, uint64_t from, uint64_t to, const uint8_t *bytes)
{
	for (uint32_t chunk = find_chunk(stream, pool, from); from < to; chunk = pool->following[chunk]) {
		size_t offset = from % CHUNK_BYTES, count = CHUNK_BYTES - offset;
		if (count > to - from)
			count = (size_t)(to - from);
		memcpy(pool->bytes + (size_t)chunk * CHUNK_BYTES + offset, bytes, count);
		from += count;
		bytes += count;
	}
}

static void advance(struct stream *stream, struct pool *pool, uint64_t to)
{
	uint32_t chunk = find_chunk(stream, pool, to - 1);
	stream->next = to;
	/* Right at a chunk's end there may be no next one yet. */
	stream->next_chunk = to % CHUNK_BYTES != 0 ? chunk : pool->following[chunk];
}

/* Writes what of [from, to) is in no island, and makes one island of it and all that it touches. */
static bool add_island(struct stream *stream, struct pool *pool, uint64_t from, uint64_t to, const uint8_t *bytes)
{
	struct island *all = stream->island;
	uint32_t first = 0;
	while (first < stream->islands && all[first].to < from)
		first++;
	uint32_t last = first;
	while (last < stream->islands && all[last].from <= to)
		last++;
	if (first == last && stream->islands == STREAM_ISLANDS_MAX)
		return false;
	uint64_t at = from;
	for (uint32_t i = first; i < last; i++) {
		if (all[i].from > at)
			put(stream, pool, at, all[i].from, bytes + (at - from));
		if (all[i].to > at)
			at = all[i].to;
	}
	if (at < to)
		put(stream, pool, at, to, bytes + (at - from));
	struct island joined = { from, to };
	if (first < last) {
		if (all[first].from < from)
			joined.from = all[first].from;
		if (all[last - 1].to > to)
			joined.to = all[last - 1].to;
	}
	memmove(all + first + 1, all + last, (stream->islands - last) * sizeof *all);
	all[first] = joined;
	stream->islands -= last - first;
	stream->islands++;
	return true;
}

bool stream_add(struct stream *stream, struct pool *pool, uint64_t position, const uint8_t *bytes, size_t length)
{
	uint64_t end = position + length;
	if (end <= stream->next || length == 0)
		return true;
	if (position < stream->next) {
		bytes += stream->next - position;
		position = stream->next;
	}
	if (end - stream->next > STREAM_AHEAD_BYTES_MAX || !reach(stream, pool, end))
		return false;
	if (position == stream->next && stream->islands == 0) {
		put(stream, pool, position, end, bytes);
		advance(stream, pool, end);
		return true;
	}
	/* A byte at `next` is always taken: it makes room among the islands, by eating the last one if it must. */
	if (stream->islands == STREAM_ISLANDS_MAX && position == stream->next)
		stream->islands--;
	if (!add_island(stream, pool, position, end, bytes))
		return false;
	if (stream->island[0].from == stream->next) {
		advance(stream, pool, stream->island[0].to);
		stream->islands--;
		memmove(stream->island, stream->island + 1, stream->islands * sizeof *stream->island);
	}
	return true;
}

void stream_trim(struct stream *stream, struct pool *pool, uint64_t position)
{
	if (position > stream->next)
		position = stream->next;
	if (position <= stream->start)
		return;
	stream->start = position;
	while (stream->chunks > 0 && (stream->first + 1) * CHUNK_BYTES <= position)
		drop_first(stream, pool);
}

void stream_copy(const struct stream *stream, const struct pool *pool, uint64_t position, uint8_t *out, size_t length)
{
	assert(position >= stream->start && position + length <= stream->next);
	if (length == 0)
		return;
	for (uint32_t chunk = find_chunk(stream, pool, position); length > 0; chunk = pool->following[chunk]) {
		size_t offset = position % CHUNK_BYTES, count = CHUNK_BYTES - offset;
		if (count > length)
			count = length;
		memcpy(out, pool->bytes + (size_t)chunk * CHUNK_BYTES + offset, count);
		position += count;
		out += count;
		length -= count;
	}
}
