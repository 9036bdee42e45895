/*
 * The flags of memory areas without a look at their pages. CRIU reads them in /proc/PID/smaps, for which the kernel walks through
 * all of the process's page tables. Here the same text is put together from /proc/PID/maps and the kernel's own flags of
 * each area (vma/link.h), by a list of which flags are called what: learnt from the kernel's own text while the tasks stood
 * still, and kept beside CRIU's kdat for the next dump.
 *
 * Invariants:
 *  - A text is put together only of flags that have been met in a smaps of stopped tasks; one that is new means smaps.
 *  - What the kernel calls an area's flags depends on them alone, so two equal views (maps and flags) have equal texts.
 */
#ifndef FT_HOOK_FLAGS_H
#define FT_HOOK_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vma/link.h"

/* All areas at one moment, if the process stands still then. */
struct flags_view {
	char *maps; /* a zero at the end */
	size_t length, room;
	struct vma *vma;
	size_t count, vma_max;
};

/* The iterator's descriptor, or -1; and the folder of the list. Before the freeze. */
void flags_load(int link, const char *folder);
bool flags_can(void);
/* Room for more than maps of this length, made present. */
bool flags_room(struct flags_view *view, size_t maps_bytes);
/* `folder` is /proc/PID. False with errno; ENOSPC: there is more than there is room for. */
bool flags_see(int folder, struct flags_view *view);
/* Before the freeze: with as much room as it takes. */
bool flags_see_all(int folder, struct flags_view *view);
bool flags_same(const struct flags_view *a, const struct flags_view *b);
/* As smaps_filter() leaves it; the length, or 0: not all flags are known, or it does not fit. */
size_t flags_compose(const struct flags_view *view, char *out, size_t size);
/* From both, of tasks that stand still. */
void flags_learn(const struct flags_view *view, const char *smaps);
/* If something was learnt, after the thaw. */
void flags_save(void);

#endif
