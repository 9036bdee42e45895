/*
 * What of an address space is still missing: spans of it, each with the address its content had when it was dumped. They follow
 * what the application does with its memory.
 *
 * Invariants: spans ascend, do not overlap and are not empty; addresses and lengths are whole pages.
 */
#ifndef FT_FEED_SPANS_H
#define FT_FEED_SPANS_H
#include <stddef.h>
#include <stdint.h>

struct span {
	uint64_t start, end;
	uint64_t origin; /* of `start`, in the dump */
};

struct spans {
	struct span *all;
	size_t first, count, room; /* all[first .. first + count) */
};

/* All that return int: 0, or -1 with ENOMEM; then nothing has changed. */
/* After the last one. */
int spans_add(struct spans *spans, uint64_t start, uint64_t end);
int spans_copy(struct spans *out, const struct spans *from);
void spans_free(struct spans *spans);
/* The span at or after `address`, NULL: none. Valid until the next change. */
const struct span *spans_at(const struct spans *spans, uint64_t address);
/* Nothing of [from, to) is missing any more. */
int spans_cut(struct spans *spans, uint64_t from, uint64_t to);
/* What is missing in [from, from + length) is missing at `to` now. -1 with EEXIST when something else is missing there. */
int spans_move(struct spans *spans, uint64_t from, uint64_t to, uint64_t length);
#endif
