/*
 * Runs of pages made smaller for the way, and back. A packed run is worth nothing by itself: its record says how it is packed
 * and how many pages come out, and the set's digest says whether they are the right ones.
 */
#ifndef FT_PAGES_PACKING_H
#define FT_PAGES_PACKING_H
#include <stddef.h>
#include <stdint.h>

#include "epoch/format.h"
#include "pages/records.h"

/* In a record: an LZ4 block, or one zstd frame. */
enum pages_packing { PAGES_PLAIN = 0, PAGES_LZ4 = 1, PAGES_ZSTD = 2 };

/* -1: there is none of that name. */
int pages_packing_called(const char *name);

/* One thread's, with all the memory that it needs. NULL with errno; how = PAGES_PLAIN never packs. */
struct pages_packer;
struct pages_packer *pages_packer_new(enum pages_packing how);
void pages_packer_free(struct pages_packer *packer);
enum pages_packing pages_packer_kind(const struct pages_packer *packer);
/* Packs 1 to PAGES_RUN_MAX pages. The bytes, valid until the next call; NULL: they would not be fewer. */
const uint8_t *pages_pack(struct pages_packer *packer, const uint8_t *bytes, uint64_t pages, size_t *packed_bytes);

/* One thread's; all zero to begin with. */
struct pages_unpacker {
	uint8_t *bytes; /* of PAGES_RUN_MAX pages; from the first use on */
	void *zstd;
};
void pages_unpacker_close(struct pages_unpacker *unpacker);
/*
 * `pages` pages, at most PAGES_RUN_MAX, valid until the next call. NULL with EBADMSG: these bytes make fewer, more or none; or ENOMEM.
 * The bytes may be anything: nothing is written beyond the run.
 */
const uint8_t *pages_unpack(struct pages_unpacker *unpacker, enum pages_packing how, const uint8_t *packed, size_t packed_bytes,
			    uint64_t pages);
#endif
