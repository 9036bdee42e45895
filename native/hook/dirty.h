/*
 * Which pages were written, where the kernel has no PAGEMAP_SCAN: CRIU reads /proc/PID/pagemap then, and with --track-mem takes the
 * soft-dirty bits away after each dump. Of what is unchanged in a tracked area (hook/areas.h) CRIU is shown that nothing is there.
 *
 * A soft-dirty bit alone does not tell. mremap() moves whole page tables without setting it, and a huge page of zeros comes in place of
 * dropped memory without it (docs/epoch-format.md): other content at an address that is called unwritten. So a page is unchanged only if its
 * bit is clear and it is in the same frame of memory, or place of swap, as at the last dump: a frame that was freed since and taken again has
 * the bit set, and one that another address had then cannot have been here. The one page that comes into a frame without the bit is the
 * huge page of zeros, which the kernel makes when it is first needed, maybe of the very frames that were dropped: its frame is asked for, and
 * nothing in it is ever unchanged.
 *
 * Invariants:
 *  - What was seen of the frames is told to the next dump by this one, and only if all of it is known.
 *  - Where frames cannot be seen, or there is no memory, everything is dumped.
 *  - What is hidden from CRIU is told to ftdump, or the epoch fails.
 */
#ifndef FT_HOOK_DIRTY_H
#define FT_HOOK_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/areas.h"

#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_OF_FILE (1ull << 61)
#define PAGEMAP_SOFT_DIRTY (1ull << 55)
#define PAGEMAP_FRAME (PAGEMAP_SOFT_DIRTY - 1)
#define HUGE_PAGES 512ull /* in a huge page, which begins at a multiple of that, in memory and in its frame */

/* Pages of one process, one after the other; their entries begin at `first` in the list of all. */
struct frames_run {
	uint32_t pid, pages;
	uint64_t address, first;
};

struct frames {
	struct frames_run *run; /* ascending by pid and address, once sorted */
	size_t runs, run_room;
	uint64_t *entry;
	size_t entries, entry_room;
};

struct kept_list {
	struct area *at;
	size_t count, room;
};

/* All may be anything when read from a file: 0, or -1 (no memory, or not such a file) and nothing. */
int frames_read(int fd, struct frames *out);
/* Sorts, and writes. -1 with errno. */
int frames_write(int fd, struct frames *frames);
/* The entry that a page had; 0: not known. */
uint64_t frames_find(const struct frames *frames, uint32_t pid, uint64_t address);
void frames_free(struct frames *frames);

/*
 * One read of pagemap, `count` entries from `address` on. Hides what is unchanged since `before` (unless `show`), adds it to `kept`, and what was
 * there to `now`. `zero`: the frame of the page of zeros, which CRIU passes over. `zeros`: the first frame of the huge page of zeros; 0: not
 * known, and what could be in it counts as changed. `any_frame`: only so that a test sees what comes of it.
 * -1: no memory; nothing is hidden that is not in `kept`.
 */
struct dirty_look {
	const struct area *area;
	size_t areas;
	const struct frames *before;
	uint64_t zero, zeros;
	bool show, any_frame;
	struct frames *now;
	struct kept_list *kept;
};
int dirty_filter(const struct dirty_look *look, uint32_t pid, uint64_t address, uint64_t *entry, size_t count);

/* Before the freeze, with the list of areas, which it takes over, and the flags of its header. */
void dirty_load(struct area *area, size_t areas, uint32_t flags);
/* After the thaw. */
void dirty_save(void);

#endif
