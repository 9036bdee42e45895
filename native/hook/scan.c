#include "hook/scan.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/pagemap_scan.h"

enum { REGIONS_MAX = 32768, PAGE = 4096 };
enum { TABLE_BYTES = 2 << 20 /* of addresses, in one page table */, NEAR_PAGES = 32 /* to walk over is cheaper than another call */, ENTRIES = 512 /* read at once */ };
#define PAGEMAP_MARKED (1ull << 57)
#define PAGEMAP_SOFT_DIRTY (1ull << 55)
#define LIST_BYTES_MAX (256u << 20) /* of address space; touched as far as it is used */
#define LIST_WARM_BYTES (1u << 20)

static const uint64_t dump_anyof = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;

struct scan_list scan_findings, scan_spans;
static struct page_region *told, *present; /* for one call each */
static uint64_t marker;

static void *map_room(size_t bytes, size_t touched)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	memset(at, 0, touched);
	return at;
}

static bool list_prepare(struct scan_list *list)
{
	list->at = map_room(LIST_BYTES_MAX, LIST_WARM_BYTES);
	list->max = list->at == NULL ? 0 : LIST_BYTES_MAX / sizeof *list->at;
	return list->at != NULL;
}

bool scan_prepare(bool quick, uint64_t known_marker)
{
	marker = known_marker;
	const size_t bytes = REGIONS_MAX * sizeof *told;
	told = map_room(bytes, bytes);
	if (told == NULL || !list_prepare(&scan_findings))
		return false;
	if (!quick)
		return true;
	present = map_room(bytes, bytes);
	return present != NULL && list_prepare(&scan_spans);
}

static bool add_finding(const struct page_region *region)
{
	if (scan_findings.count == scan_findings.max)
		return false;
	scan_findings.at[scan_findings.count++] = *region;
	return true;
}

/*
 * A mark where no page is, as the quick scan leaves one, the kernel calls swapped. CRIU would read it as a page of zeros, put one
 * there by that, and dump it: thread stacks and tables that are hardly used would count with all their size.
 */
static bool note_unless_marks(int pagemap, const struct page_region *region)
{
	uint64_t entry[ENTRIES];
	struct page_region piece = *region;
	piece.end = piece.start;
	for (uint64_t at = region->start; at < region->end;) {
		size_t wanted = (region->end - at) / PAGE < ENTRIES ? (region->end - at) / PAGE : ENTRIES;
		if (syscall(SYS_pread64, pagemap, entry, wanted * sizeof *entry, at / PAGE * sizeof *entry) != (long)(wanted * sizeof *entry))
			return false;
		for (size_t i = 0; i < wanted; i++, at += PAGE) {
			if ((entry[i] & ~PAGEMAP_SOFT_DIRTY) == marker) {
				if (piece.end > piece.start && !add_finding(&piece))
					return false;
				piece.start = at + PAGE;
			}
			piece.end = at + PAGE;
		}
	}
	return piece.end == piece.start || add_finding(&piece);
}

static bool note_finding(int pagemap, const struct page_region *region)
{
	bool may_be_marks = marker != 0 && (region->categories & dump_anyof) == PAGE_IS_SWAPPED;
	return may_be_marks ? note_unless_marks(pagemap, region) : add_finding(region);
}

long scan_on(int pagemap, struct pm_scan_arg *ask)
{
	long count = syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN, ask);
	if (count < 0)
		return -1;
	uint64_t reached = ask->end;
	if ((uint64_t)count == ask->vec_len) {
		uint64_t last = ((const struct page_region *)(uintptr_t)ask->vec)[count - 1].end;
		reached = ask->walk_end > last ? ask->walk_end : last;
	}
	if (reached <= ask->start)
		return -1;
	ask->start = reached;
	return count;
}

bool scan_plainly(int pagemap, struct tracked_area *tracked)
{
	const struct area *area = &tracked->area;
	/* Anonymous memory has no pages of files; not to ask for them spares the kernel a look at every page's struct. */
	const uint64_t inverted = PAGE_IS_PFNZERO;
	struct pm_scan_arg ask = {
		.size = sizeof ask, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = area->start, .end = area->end, .vec = (uintptr_t)told, .vec_len = REGIONS_MAX,
		.category_inverted = inverted, .category_mask = inverted, .category_anyof_mask = dump_anyof,
		.return_mask = dump_anyof | PAGE_IS_WRITTEN,
	};
	tracked->first = scan_findings.count;
	while (ask.start < area->end) {
		long count = scan_on(pagemap, &ask);
		if (count < 0)
			return false;
		for (long i = 0; i < count; i++)
			if (!note_finding(pagemap, &told[i]))
				return false;
	}
	tracked->count = scan_findings.count - tracked->first;
	return true;
}

/* ---- quickly ---- */

static bool note_span(struct tracked_area *tracked, uint64_t from, uint64_t to)
{
	struct page_region *last = tracked->spans > 0 ? &scan_spans.at[scan_spans.count - 1] : NULL;
	if (last != NULL && last->end == from) {
		last->end = to;
		return true;
	}
	if (scan_spans.count == scan_spans.max)
		return false;
	scan_spans.at[scan_spans.count++] = (struct page_region){ .start = from, .end = to };
	tracked->spans++;
	return true;
}

/* What is there of `regions`, which lie near each other: that is what CRIU is told of. */
static bool note_present(int pagemap, const struct page_region *region, size_t regions)
{
	struct pm_scan_arg ask = {
		.size = sizeof ask, .start = region[0].start, .end = region[regions - 1].end,
		.vec = (uintptr_t)present, .vec_len = REGIONS_MAX, .category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PFNZERO, .category_anyof_mask = dump_anyof, .return_mask = dump_anyof,
	};
	size_t at = 0;
	while (ask.start < ask.end) {
		long count = scan_on(pagemap, &ask);
		if (count < 0)
			return false;
		for (long i = 0; i < count; i++) {
			const struct page_region *found = &present[i];
			for (size_t k = at; k < regions && region[k].start < found->end; k++) {
				struct page_region piece = *found;
				if (region[k].end <= found->start) {
					at = k + 1;
					continue;
				}
				piece.start = region[k].start > piece.start ? region[k].start : piece.start;
				piece.end = region[k].end < piece.end ? region[k].end : piece.end;
				piece.categories |= PAGE_IS_WRITTEN;
				if (!note_finding(pagemap, &piece))
					return false;
			}
		}
	}
	return true;
}

static bool note_regions(int pagemap, const struct page_region *region, size_t regions)
{
	for (size_t from = 0, to; from < regions; from = to) {
		for (to = from + 1; to < regions && region[to].start - region[to - 1].end <= NEAR_PAGES * PAGE; to++)
			;
		if (!note_present(pagemap, region + from, to - from))
			return false;
	}
	return true;
}

static bool is_marked(int pagemap, uint64_t address)
{
	uint64_t entry = 0;
	return syscall(SYS_pread64, pagemap, &entry, sizeof entry, address / PAGE * sizeof entry) == (long)sizeof entry &&
	       (entry & PAGEMAP_MARKED) != 0;
}

/* The first page that is there; `to` if there is none, and 0 if it cannot be known. */
static uint64_t first_present(int pagemap, uint64_t from, uint64_t to)
{
	struct page_region found;
	struct pm_scan_arg ask = {
		.size = sizeof ask, .start = from, .end = to, .vec = (uintptr_t)&found, .vec_len = 1, .max_pages = 1,
		.category_inverted = PAGE_IS_PFNZERO, .category_mask = PAGE_IS_PFNZERO, .category_anyof_mask = dump_anyof,
		.return_mask = dump_anyof,
	};
	long count = syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN, &ask);
	return count < 0 ? 0 : count == 0 ? to : found.start;
}

/*
 * Nothing was told of `from` to `to`. Of each page table, the first page that was not told of is marked; or the table is gone as a
 * whole, and none of its pages is there.
 */
static bool note_unwritten(int pagemap, struct tracked_area *tracked, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t next = from / TABLE_BYTES * TABLE_BYTES + TABLE_BYTES;
		next = next < to ? next : to;
		bool first = from == tracked->area.start || from % TABLE_BYTES == 0;
		if (first && !is_marked(pagemap, from)) {
			uint64_t there = first_present(pagemap, from, to);
			if (there < next)
				return false; /* neither */
			from = there == to ? to : there / TABLE_BYTES * TABLE_BYTES;
		} else if (note_span(tracked, from, next)) {
			from = next;
		} else {
			return false;
		}
	}
	return true;
}

static bool is_mapped(int maps, const struct area *area)
{
	for (uint64_t at = area->start; at < area->end;) {
		struct procmap_query ask = { .size = sizeof ask, .query_addr = at };
		if (syscall(SYS_ioctl, maps, PROCMAP_QUERY, &ask) != 0 || ask.vma_end <= at)
			return false;
		at = ask.vma_end;
	}
	return true;
}

bool scan_quickly(int pagemap, int maps, bool verify, struct tracked_area *tracked)
{
	const struct area *area = &tracked->area;
	if (!is_mapped(maps, area))
		return false;
	struct pm_scan_arg ask = {
		.size = sizeof ask, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = area->start, .end = area->end, .vec = (uintptr_t)told, .vec_len = REGIONS_MAX,
		.category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN,
	};
	uint64_t done = area->start;
	tracked->quick = true;
	tracked->first = scan_findings.count;
	tracked->first_span = scan_spans.count;
	tracked->spans = 0;
	while (ask.start < area->end) {
		long count = scan_on(pagemap, &ask);
		if (count < 0)
			return false;
		for (long i = 0; i < count; i++) {
			if (!note_unwritten(pagemap, tracked, done, told[i].start))
				return false;
			done = told[i].end;
		}
		if (!verify && !note_regions(pagemap, told, (size_t)count))
			return false;
	}
	const struct page_region all = { .start = area->start, .end = area->end };
	if (!note_unwritten(pagemap, tracked, done, area->end) || (verify && !note_present(pagemap, &all, 1)))
		return false;
	tracked->count = scan_findings.count - tracked->first;
	return true;
}
