/*
 * One address space that waits for its memory: a userfaultfd that CRIU registered its areas with, and what is missing in it.
 *
 * Invariants:
 *  - A page is given only if it has the checksum that was committed.
 *  - Nothing is given while an event waits to be read: the kernel refuses it (EAGAIN), so what is missing is as the kernel sees it.
 *    Therefore one message is read at a time, and a fault that is refused is woken to fault again.
 *  - The userfaultfd is closed only when nothing is missing, or when the address space is gone: closing makes zeros of the rest.
 */
#ifndef FT_FEED_SPACE_H
#define FT_FEED_SPACE_H
#include <stdbool.h>
#include <stdint.h>

#include "epoch/reader.h"
#include "feed/spans.h"
#include "pages/lazy.h"

enum { FEED_SLICE_PAGES = 32, FEED_FAULT_PAGES = 8 };

struct feed_source {
	const struct lazy_set *set;
	int fd; /* its pages, offset = address */
};

struct feed_counts {
	uint64_t copied, zero, present; /* pages given, and found there already */
	uint64_t faults, forks;
};

struct space {
	int fd; /* -1: done with */
	const struct feed_source *source;
	struct spans missing;
	uint64_t cursor; /* of the fill */
	bool forked;	 /* by the application, after the restore */
	uint64_t no_memory_since_us;
};

enum space_result { SPACE_OK, SPACE_AGAIN, SPACE_GONE, SPACE_FAILED };

/* What is missing at first: all of the source's. 0, or -1 and *e. */
int space_open(struct space *space, int fd, const struct feed_source *source, struct epoch_error *e);
void space_close(struct space *space);
/* The next slice, at most FEED_SLICE_PAGES, in address order. SPACE_AGAIN: read events first. */
enum space_result space_step(struct space *space, size_t pages_max, struct feed_counts *counts, struct epoch_error *e);
/* One message, if there is one (else SPACE_AGAIN). *child: a space that this one forked; its fd is -1 if none. */
enum space_result space_event(struct space *space, struct space *child, struct feed_counts *counts, struct epoch_error *e);
#endif
