/*
 * CRIU's mm images (mm.proto and vma.proto in Debian's criu package): only which areas of a process a restore may fill later.
 * CRIU decides by this image which areas it gives to the userfaultfd, so that it is asked, and not what was once noted of a page.
 */
#ifndef FT_PAGES_MM_H
#define FT_PAGES_MM_H
#include <stddef.h>
#include <stdint.h>

struct mm_area {
	uint64_t start, end;
};

/* Ascending, not overlapping, in memory that the caller frees. 0, or -1 with EBADMSG (no such image) or ENOMEM. */
int mm_lazy_areas(const uint8_t *bytes, size_t length, struct mm_area **out, size_t *count);
#endif
