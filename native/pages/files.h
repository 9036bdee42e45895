/*
 * The standby's pages: one flat set a process, in a directory on a tmpfs.
 *
 *   ID         the pages, each at the offset that is its virtual address: a file that is nearly all hole
 *   ID.sums    for each page, at address / 4096 * 8: u32 crc32c, u32 flags (1 present, 2 lazy)
 *   manifest   which processes there are: count and digest of each as of the last section applied
 *
 * In virtual order, changed in place, with no index to keep: a page that is not there costs nothing, one that is dropped is a
 * hole again. Nothing here is atomic in itself: the section stands in the store's journal until all of it is applied, and
 * applying it again from any state in between gives the same.
 */
#ifndef FT_PAGES_FILES_H
#define FT_PAGES_FILES_H
#include "epoch/reader.h"
#include "pages/set.h"

/* Brings the directory to the state after a section that has passed pages_table_next(). 0, or -1 and *e (space, io). */
int pages_apply(int directory, const struct epoch_section *section, bool full, struct epoch_error *e);
/* What the directory has. `settled`: the manifest must agree. NULL and *e. */
struct pages_table *pages_read(int directory, bool settled, struct epoch_error *e);
/* The page file of a process, for reading. -1 with errno. */
int pages_open(int directory, uint64_t id);

/*
 * Writes pagemap-ID.img and pages-N.img, as CRIU restores them, for every process into another directory; every page is compared
 * with its sum on the way. If `lazy_from` bytes of memory or more can be given later (UINT64_MAX: never), they are left out, unread,
 * and stand in the list of pages/lazy.h; the directory must have the mm images then. 0, or -1 and *e (corrupt, space, io).
 */
int pages_compose(int directory, const struct pages_table *table, int images, uint64_t lazy_from, uint64_t *lazy_pages,
		  struct epoch_error *e);
#endif
