/*
 * CRIU's pagemap images (docs of the format: pagemap.proto in Debian's criu package): the little of protobuf that they use.
 *
 *   u32 magic of images, u32 magic of pagemaps, then messages, each after its u32 length:
 *   head   { pages_id = 1 }                               pages are in pages-<pages_id>.img, in this order
 *   entry  { vaddr = 1, nr_pages = 2 (before CRIU 4.1), in_parent = 3, flags = 4, nr_pages = 5 }
 */
#ifndef FT_PAGES_PAGEMAP_H
#define FT_PAGES_PAGEMAP_H
#include <stddef.h>
#include <stdint.h>

enum { PAGEMAP_LAZY = 2, PAGEMAP_PRESENT = 4 };
enum { PAGEMAP_HEAD_BYTES_MAX = 32, PAGEMAP_ENTRY_BYTES_MAX = 48 };

struct pagemap_entry {
	uint64_t address, pages;
	uint32_t flags;
};
struct pagemap_reader {
	const uint8_t *at, *end;
};

/* 0 and *pages_id, or -1 with EBADMSG: this is no pagemap image. */
int pagemap_open(const uint8_t *bytes, size_t length, struct pagemap_reader *out, uint32_t *pages_id);
/* 1 and an entry, 0 at the end, -1 with EBADMSG. */
int pagemap_next(struct pagemap_reader *reader, struct pagemap_entry *out);

/* Return the length. */
size_t pagemap_write_head(uint8_t *out, uint32_t pages_id);
size_t pagemap_write_entry(uint8_t *out, const struct pagemap_entry *entry);
#endif
