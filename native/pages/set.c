#include "pages/set.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* What one page adds to its set's digest: a sum, so that it follows from what changed alone. */
static uint64_t share_of(uint64_t address, bool lazy, uint32_t crc)
{
	return mix(mix(address + lazy + 0x9e3779b97f4a7c15u) + crc);
}

struct pages_table *pages_table_new(bool hashed)
{
	struct pages_table *table = calloc(1, sizeof *table);
	if (table != NULL)
		table->hashed = hashed;
	return table;
}

static size_t chunk_bytes(const struct pages_table *table)
{
	return sizeof(struct pages_chunk) + (table->hashed ? CHUNK_PAGES * sizeof(struct block_hash) : 0);
}

static void chunk_release(struct pages_chunk *chunk)
{
	if (--chunk->references == 0)
		free(chunk);
}

void pages_table_free(struct pages_table *table)
{
	if (table == NULL)
		return;
	for (size_t i = 0; i < table->count; i++) {
		for (size_t k = 0; k < table->set[i].count; k++)
			chunk_release(table->set[i].chunk[k]);
		free(table->set[i].chunk);
	}
	free(table->set);
	free(table);
}

uint64_t pages_table_pages(const struct pages_table *table)
{
	uint64_t pages = 0;
	for (size_t i = 0; i < table->count; i++)
		pages += table->set[i].pages;
	return pages;
}

struct pages_set *pages_table_find(const struct pages_table *table, uint64_t id)
{
	size_t low = 0, high = table->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (table->set[middle].id == id)
			return &table->set[middle];
		if (table->set[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

struct pages_set *pages_table_add(struct pages_table *table, uint64_t id, uint32_t pages_id)
{
	assert(table->count == 0 || table->set[table->count - 1].id < id);
	if (table->count == table->room) {
		size_t room = table->room ? table->room * 2 : 8;
		struct pages_set *grown = realloc(table->set, room * sizeof *grown);
		if (grown == NULL)
			return NULL;
		table->set = grown;
		table->room = room;
	}
	struct pages_set *set = &table->set[table->count++];
	*set = (struct pages_set){ .id = id, .pages_id = pages_id };
	return set;
}

struct pages_set *pages_table_share(struct pages_table *table, const struct pages_set *from, uint32_t pages_id)
{
	struct pages_set *set = pages_table_add(table, from->id, pages_id);
	if (set == NULL || from->count == 0)
		return set;
	set->chunk = malloc(from->count * sizeof *set->chunk);
	if (set->chunk == NULL)
		return NULL;
	memcpy(set->chunk, from->chunk, from->count * sizeof *set->chunk);
	for (size_t i = 0; i < from->count; i++)
		set->chunk[i]->references++;
	set->count = set->room = from->count;
	set->pages = from->pages;
	set->digest = from->digest;
	return set;
}

bool pages_table_equal(const struct pages_table *a, const struct pages_table *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct pages_set *x = &a->set[i], *y = &b->set[i];
		if (x->id != y->id || x->pages_id != y->pages_id || x->pages != y->pages || x->digest != y->digest)
			return false;
	}
	return true;
}

size_t pages_chunk_at(const struct pages_set *set, uint64_t address)
{
	size_t low = 0, high = set->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (set->chunk[middle]->base + CHUNK_BYTES <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t page_of(const struct pages_chunk *chunk, uint64_t address)
{
	return (address - chunk->base) / PAGE_BYTES;
}

bool pages_get(const struct pages_table *table, const struct pages_set *set, uint64_t address, struct page_state *out)
{
	size_t at = pages_chunk_at(set, address);
	if (at == set->count || set->chunk[at]->base > address)
		return false;
	const struct pages_chunk *chunk = set->chunk[at];
	size_t page = page_of(chunk, address);
	if (!chunk_has(chunk->present, page))
		return false;
	out->lazy = chunk_has(chunk->lazy, page);
	out->crc = chunk->crc[page];
	if (table->hashed)
		out->hash = chunk->hash[page];
	return true;
}

/* One that only this set has. */
static struct pages_chunk *own_chunk(const struct pages_table *table, struct pages_set *set, size_t at)
{
	struct pages_chunk *chunk = set->chunk[at];
	if (chunk->references == 1)
		return chunk;
	struct pages_chunk *copy = malloc(chunk_bytes(table));
	if (copy == NULL)
		return NULL;
	memcpy(copy, chunk, chunk_bytes(table));
	copy->references = 1;
	chunk->references--;
	return set->chunk[at] = copy;
}

static struct pages_chunk *insert_chunk(const struct pages_table *table, struct pages_set *set, size_t at, uint64_t base)
{
	if (set->count == set->room) {
		size_t room = set->room ? set->room * 2 : 16;
		struct pages_chunk **grown = realloc(set->chunk, room * sizeof(*grown));
		if (grown == NULL)
			return NULL;
		set->chunk = grown;
		set->room = room;
	}
	struct pages_chunk *chunk = calloc(1, chunk_bytes(table));
	if (chunk == NULL)
		return NULL;
	chunk->base = base;
	chunk->references = 1;
	memmove(set->chunk + at + 1, set->chunk + at, (set->count - at) * sizeof(*set->chunk));
	set->chunk[at] = chunk;
	set->count++;
	return chunk;
}

static void forget_page(struct pages_set *set, struct pages_chunk *chunk, size_t page)
{
	set->digest -= share_of(chunk->base + page * PAGE_BYTES, chunk_has(chunk->lazy, page), chunk->crc[page]);
	set->pages--;
	chunk->count--;
	chunk->present[page / 64] &= ~(1ull << page % 64);
	chunk->lazy[page / 64] &= ~(1ull << page % 64);
}

int pages_put(const struct pages_table *table, struct pages_set *set, uint64_t address, const struct page_state *state)
{
	size_t at = pages_chunk_at(set, address);
	struct pages_chunk *chunk = at < set->count && set->chunk[at]->base <= address
					    ? own_chunk(table, set, at)
					    : insert_chunk(table, set, at, address & ~(CHUNK_BYTES - 1));
	if (chunk == NULL)
		return -1;
	size_t page = page_of(chunk, address);
	if (chunk_has(chunk->present, page))
		forget_page(set, chunk, page);
	chunk->present[page / 64] |= 1ull << page % 64;
	chunk->lazy[page / 64] |= (uint64_t)state->lazy << page % 64;
	chunk->crc[page] = state->crc;
	if (table->hashed)
		chunk->hash[page] = state->hash;
	chunk->count++;
	set->pages++;
	set->digest += share_of(address, state->lazy, state->crc);
	return 0;
}

static void remove_empty(struct pages_set *set)
{
	size_t kept = 0;
	for (size_t i = 0; i < set->count; i++) {
		if (set->chunk[i]->count == 0)
			chunk_release(set->chunk[i]);
		else
			set->chunk[kept++] = set->chunk[i];
	}
	set->count = kept;
}

int pages_drop(const struct pages_table *table, struct pages_set *set, uint64_t from, uint64_t to)
{
	bool emptied = false;
	for (size_t at = pages_chunk_at(set, from); at < set->count && set->chunk[at]->base < to; at++) {
		struct pages_chunk *chunk = own_chunk(table, set, at);
		if (chunk == NULL)
			return -1;
		size_t first = from > chunk->base ? page_of(chunk, from) : 0;
		size_t end = to < chunk->base + CHUNK_BYTES ? page_of(chunk, to) : CHUNK_PAGES;
		for (size_t page = first; page < end; page++)
			if (chunk_has(chunk->present, page))
				forget_page(set, chunk, page);
		emptied |= chunk->count == 0;
	}
	if (emptied)
		remove_empty(set);
	return 0;
}

bool pages_next_run(const struct pages_set *set, uint64_t address, struct pages_run *out)
{
	bool found = false;
	for (size_t at = pages_chunk_at(set, address); at < set->count; at++) {
		const struct pages_chunk *chunk = set->chunk[at];
		if (found && chunk->base != out->to)
			return true;
		for (size_t page = address > chunk->base ? page_of(chunk, address) : 0; page < CHUNK_PAGES; page++) {
			bool present = chunk_has(chunk->present, page), lazy = chunk_has(chunk->lazy, page);
			uint64_t here = chunk->base + page * PAGE_BYTES;
			if (found && (!present || lazy != out->lazy))
				return true;
			if (!found && present)
				*out = (struct pages_run){ .from = here, .lazy = lazy };
			found |= present;
			if (present)
				out->to = here + PAGE_BYTES;
		}
	}
	return found;
}
