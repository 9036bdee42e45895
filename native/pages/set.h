/*
 * What is known of a process's pages without having them: which are present, the crc32c of each, and on the primary a hash
 * that stands for the content. In chunks of 512 pages (2 MiB of address space), shared between a table and its successor
 * until one of them changes: so an epoch costs what it touches, and a refused one leaves nothing behind.
 *
 * Invariants: chunks ascend and are never empty; `pages` and `digest` are those of the present pages; a chunk with more than
 * one reference is never written.
 */
#ifndef FT_PAGES_SET_H
#define FT_PAGES_SET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "files/hash.h"
#include "pages/records.h"

#define CHUNK_PAGES 512u
#define CHUNK_BYTES ((uint64_t)CHUNK_PAGES * PAGE_BYTES)

struct pages_chunk {
	uint64_t base;
	uint32_t references;
	uint32_t count; /* present */
	uint64_t present[CHUNK_PAGES / 64], lazy[CHUNK_PAGES / 64];
	uint32_t crc[CHUNK_PAGES];
	struct block_hash hash[]; /* of hashed sets only */
};

struct pages_set {
	uint64_t id; /* CRIU's: the pid inside */
	uint32_t pages_id; /* of pages-N.img */
	struct pages_chunk **chunk;
	size_t count, room;
	uint64_t pages, digest;
};

struct pages_table {
	struct pages_set *set; /* ascending by id */
	size_t count, room;
	bool hashed;
};

struct page_state {
	bool lazy;
	uint32_t crc;
	struct block_hash hash;
};

struct pages_table *pages_table_new(bool hashed); /* NULL: no memory; so for all below */
void pages_table_free(struct pages_table *table); /* NULL is fine */
uint64_t pages_table_pages(const struct pages_table *table);
struct pages_set *pages_table_find(const struct pages_table *table, uint64_t id);
/* An empty set at the end; ids must ascend. */
struct pages_set *pages_table_add(struct pages_table *table, uint64_t id, uint32_t pages_id);
/* A set with the content of `from` at the end. */
struct pages_set *pages_table_share(struct pages_table *table, const struct pages_set *from, uint32_t pages_id);
/* Whether both have the same pages with the same sums. */
bool pages_table_equal(const struct pages_table *a, const struct pages_table *b);

/* The state of a page; false: not present. */
bool pages_get(const struct pages_table *table, const struct pages_set *set, uint64_t address, struct page_state *out);
int pages_put(const struct pages_table *table, struct pages_set *set, uint64_t address, const struct page_state *state);
/* Takes away what is present in [from, to). */
int pages_drop(const struct pages_table *table, struct pages_set *set, uint64_t from, uint64_t to);

/* The first run of present pages of one kind at or after `address`. False: none. */
struct pages_run {
	uint64_t from, to;
	bool lazy;
};
bool pages_next_run(const struct pages_set *set, uint64_t address, struct pages_run *out);
/* The chunk that covers or follows `address`: its index, or set->count. */
size_t pages_chunk_at(const struct pages_set *set, uint64_t address);

static inline bool chunk_has(const uint64_t *bits, size_t page)
{
	return bits[page / 64] >> (page % 64) & 1;
}
#endif
