/*
 * The memory that a restore fills later (native/feed): which pages of which process, and the crc32c of each. The content stays
 * in the store's flat sets, of which lazy-ID.pages beside the list is a hard link.
 *
 *   header  magic "FTLAZY01", u32 version, u32 sets, u64 bytes that follow, u32 crc32c of them, u32 crc32c of the header so far
 *   set     u64 id, u64 runs, runs times { u64 from, u64 pages }, then u32 crc32c for every page in order
 *
 * Ids ascend; the runs of a set ascend and do not overlap, and none lies in two areas.
 */
#ifndef FT_PAGES_LAZY_H
#define FT_PAGES_LAZY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "epoch/reader.h"

#define LAZY_LIST_NAME "lazy.list"
enum { LAZY_VERSION = 1, LAZY_HEADER_BYTES = 32, LAZY_NAME_BYTES = 40, LAZY_SETS_MAX = 65536 };

/* lazy-ID.pages */
void lazy_pages_name(uint64_t id, char out[LAZY_NAME_BYTES]);

/* ---- writing: begin, then for each process a set with its runs and sums, then write ---- */

struct lazy_writer {
	uint8_t *bytes; /* after the header */
	size_t length, room;
	uint32_t *sum; /* of the set that is open */
	size_t sums, sums_room;
	size_t set_at; /* where the open set begins */
	uint64_t set_runs, pages;
	uint32_t sets;
};
/* All 0, or -1 with ENOMEM. */
int lazy_begin_set(struct lazy_writer *writer, uint64_t id);
/* `sum` has one for each page. */
int lazy_add_run(struct lazy_writer *writer, uint64_t from, uint64_t pages, const uint32_t *sum);
int lazy_end_set(struct lazy_writer *writer);
/* Makes the file. 0 or -1 with errno. */
int lazy_write(const struct lazy_writer *writer, int directory);
void lazy_free(struct lazy_writer *writer);

/* ---- reading ---- */

struct lazy_run {
	uint64_t from, pages, first; /* index of the first page's sum */
};
struct lazy_set {
	uint64_t id;
	struct lazy_run *run;
	size_t runs;
	const uint8_t *sum; /* u32 each */
};
struct lazy_list {
	struct lazy_set *set;
	size_t sets;
	uint64_t pages;
	uint8_t *bytes;
};
/* Checks all of it. NULL and *e (corrupt, version, io, space). */
struct lazy_list *lazy_read(int directory, struct epoch_error *e);
/* The same of bytes, which it takes over. */
struct lazy_list *lazy_parse(uint8_t *bytes, size_t length, struct epoch_error *e);
void lazy_list_free(struct lazy_list *list);
const struct lazy_set *lazy_find(const struct lazy_list *list, uint64_t id);
/* The sum of a page; false: not in the set. */
bool lazy_sum(const struct lazy_set *set, uint64_t address, uint32_t *out);
#endif
