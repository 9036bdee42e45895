/*
 * What the kernel says of the pages of a tracked area. An area is scanned once a dump, with everything standing still: what is written
 * is found, and protected again in the same step.
 *
 * Plainly: every page that is there, and whether it was written. Quickly: nothing but what is written, which for each entry of a
 * page table is a look at one bit. That tells of all entries that are not marked, so of pages that are gone too, and leaves a mark
 * there; what it does not tell of is as it was. Only what is not mapped, and a page table that is gone as a whole, it passes over;
 * so both are looked for.
 */
#ifndef FT_HOOK_SCAN_H
#define FT_HOOK_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/areas.h"
#include "hook/pagemap_scan.h"

struct scan_list {
	struct page_region *at;
	size_t count, max;
};
/* What CRIU may be told of, with its categories; and, of quick scans, what is as it was. By area, ascending. */
extern struct scan_list scan_findings __attribute__((visibility("hidden")));
extern struct scan_list scan_spans __attribute__((visibility("hidden")));

/* An area, and its own parts of the lists. */
struct tracked_area {
	struct area area;
	bool lost, quick;
	size_t first, count;
	size_t first_span, spans;
};

/* Before the freeze: room, made present. `marker`: of areas.h. */
bool scan_prepare(bool quick, uint64_t marker);
/* False: the kernel does not track all of it, or there is no room; the lists may have become longer. */
bool scan_plainly(int pagemap, struct tracked_area *tracked);
/* With `verify`, everything that is there is noted besides. */
bool scan_quickly(int pagemap, int maps, bool verify, struct tracked_area *tracked);
/*
 * Asks on from `ask->start`, which moves to how far the call has looked: the count of regions, or -1 if it does not get on. The
 * kernel gathers 512 regions at a time, and in walk_end leaves where it last stopped to hand some over, though it has gone on: only
 * when all the room was used does it say more than the regions themselves. Asked again from there, it would call unwritten what the
 * first call has just protected.
 */
long scan_on(int pagemap, struct pm_scan_arg *ask);

#endif
