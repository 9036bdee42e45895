/* The standby's knowledge of its pages after a section, before anything is applied. */
#ifndef FT_PAGES_PARSE_H
#define FT_PAGES_PARSE_H
#include "epoch/reader.h"
#include "pages/packing.h"
#include "pages/set.h"

/* One record, checked in itself: order is checked by its readers. */
struct pages_change {
	enum epoch_record_type type;
	uint64_t id;
	uint32_t pages_id;
	bool fresh, lazy;
	uint64_t address, pages; /* DROP, DATA, PACKED, ZERO; `pages` also of END */
	uint64_t digest;
	const uint8_t *bytes; /* DATA, PACKED */
	enum pages_packing how; /* PACKED */
	size_t packed_bytes;
};
/* 1 and the next record, 0 at the end, -1 and *e. */
int pages_change_next(struct epoch_cursor *cursor, struct pages_change *out, struct epoch_error *e);
/* The pages of DATA or PACKED; of the latter valid until the next call. NULL and *e (corrupt, space). */
const uint8_t *pages_change_bytes(const struct pages_change *change, struct pages_unpacker *unpacker, struct epoch_error *e);

/*
 * The table after `section` (NULL: none), a new one; `base` stays as it is. Checks all that the section says: order, bounds,
 * what it drops, and every set's count and digest. NULL with *e (corrupt; base = does not fit this base; space = no memory).
 * `full`: nothing is taken from the base. `redo`: the base may have some or all of this section applied already.
 */
struct pages_table *pages_table_next(const struct pages_table *base, const struct epoch_section *section, bool full, bool redo,
				     struct epoch_error *e);
/* Bytes that applying needs beyond what is there: pages are written in place. */
uint64_t pages_apply_needs(const struct pages_table *before, const struct pages_table *after);
#endif
