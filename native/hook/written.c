/*
 * CRIU asks the kernel which pages to dump by ioctl(PAGEMAP_SCAN) on the /proc/PID/pagemap of each process. In areas that are
 * tracked (hook/areas.h) it is told only of pages written since the last epoch; the others are noted for ftdump.
 *
 * Invariants:
 *  - Each area is scanned once a dump, by one call that finds what is written and protects it again; every question of
 *    CRIU's about it is answered from that one finding, so asking twice gives the same answer.
 *  - An area that the kernel does not call tracked, in whole, is answered by the kernel itself: dumped whole.
 *  - What CRIU asks before the freeze (its feature probes) and everything that is not this one question passes through.
 *  - Quickly: the kernel is asked for nothing but what is written, which for each entry of a page table is a look at one bit. It tells
 *    of all entries that are not marked, so of pages that are gone too, and leaves a mark there; what it does not tell of is as it
 *    was. Only what is not mapped, and a page table that is gone as a whole, it passes over; so both are looked for.
 *  - What is kept from CRIU is told to ftdump, or nothing of it is: the file is written whole or not at all.
 */
#include "hook/written.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "enter/enter.h"
#include "hook/areas.h"
#include "hook/hook.h"
#include "hook/late.h"
#include "hook/pagemap_scan.h"
#include "hook/witness.h"

enum { REGIONS_MAX = 32768, AREAS_MAX = 1 << 20, PAGE = 4096 };
enum { TABLE_BYTES = 2 << 20 /* of addresses, in one page table */, NEAR_PAGES = 32 /* to walk over is cheaper than another call */ };
#define QUICK_BYTES_MAX (64ull << 30) /* of an area */
#define PAGEMAP_MARKED (1ull << 57)
#define FINDINGS_BYTES_MAX (256u << 20) /* of address space; touched as far as it is used */
#define FINDINGS_WARM_BYTES (1u << 20)

/* What CRIU asks: pages that are there, but no zero pages and none of files. */
static const uint64_t dump_inverted = PAGE_IS_PFNZERO | PAGE_IS_FILE;
static const uint64_t dump_anyof = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;

/* An area with what was found in it: finding[first] to finding[first + count], ascending. */
struct tracked_area {
	struct area area;
	bool lost;
	size_t first, count;
	bool quick;
	size_t first_span, spans; /* what is as it was */
};

static struct {
	bool loaded, verify, quick, slow; /* slow: an area that could have been looked through quickly was not */
	struct tracked_area *area;
	size_t areas;
	struct page_region *finding;
	size_t findings, findings_max;
	struct page_region *span;
	size_t spans;
	struct page_region *room, *present; /* for one call */
	uint32_t scanned[256];    /* pids whose areas have been scanned */
	size_t pids;
} written;

static void *map_room(size_t bytes, size_t touched)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	memset(at, 0, touched);
	return at;
}

/* The file's bytes, or NULL. */
static struct area *read_areas(struct areas_header *header)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, ENTER_IMAGES_PATH "/" AREAS_NAME, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	struct area *list = NULL;
	if (read(fd, header, sizeof *header) == (ssize_t)sizeof *header && header->magic == AREAS_MAGIC &&
	    header->count <= AREAS_MAX) {
		size_t bytes = header->count * sizeof *list;
		list = malloc(bytes + 1);
		if (list != NULL && (read(fd, list, bytes) != (ssize_t)bytes || ft_crc32c(0, list, bytes) != header->crc)) {
			free(list);
			list = NULL;
		}
	}
	close(fd);
	return list;
}

void written_load(void)
{
	struct areas_header header;
	struct area *list = read_areas(&header);
	if (list == NULL)
		return; /* every page is dumped, and ftdump sees that nothing was kept */
	written.area = calloc(header.count + 1, sizeof *written.area);
	written.finding = map_room(FINDINGS_BYTES_MAX, FINDINGS_WARM_BYTES);
	written.room = map_room(REGIONS_MAX * sizeof *written.room, REGIONS_MAX * sizeof *written.room);
	written.quick = (header.flags & AREAS_QUICK) != 0 && (hook.shortcuts & HOOK_QUICK) != 0;
	if (written.quick) {
		written.span = map_room(FINDINGS_BYTES_MAX, FINDINGS_WARM_BYTES);
		written.present = map_room(REGIONS_MAX * sizeof *written.present, REGIONS_MAX * sizeof *written.present);
		written.quick = written.span != NULL && written.present != NULL;
	}
	if (written.area != NULL && written.finding != NULL && written.room != NULL) {
		for (size_t i = 0; i < header.count; i++)
			written.area[i].area = list[i];
		written.areas = header.count;
		written.findings_max = FINDINGS_BYTES_MAX / sizeof *written.finding;
		written.verify = (header.flags & AREAS_VERIFY) != 0;
		written.loaded = true;
	}
	free(list);
}

/* ---- scanning ---- */

static bool note_finding(const struct page_region *region)
{
	if (written.findings == written.findings_max)
		return false;
	written.finding[written.findings++] = *region;
	return true;
}

/*
 * How far a call has looked. The kernel gathers 512 regions at a time, and in walk_end leaves where it last stopped to hand some
 * over, though it has gone on: only when all the room was used does it say more than the regions themselves. Asked again from
 * there, it would call unwritten what the first call has just protected.
 */
static uint64_t reached_by(const struct pm_scan_arg *ask, long count)
{
	if ((uint64_t)count < ask->vec_len)
		return ask->end;
	uint64_t last = ((const struct page_region *)(uintptr_t)ask->vec)[count - 1].end;
	return ask->walk_end > last ? ask->walk_end : last;
}

/* One pass: what is there, whether it was written; and what was is protected again. */
static bool scan_area(int pagemap, struct tracked_area *tracked)
{
	const struct area *area = &tracked->area;
	/* Anonymous memory has no pages of files; not to ask for them spares the kernel a look at every page's struct. */
	const uint64_t inverted = PAGE_IS_PFNZERO;
	struct pm_scan_arg ask = {
		.size = sizeof ask, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = area->start, .end = area->end, .vec = (uintptr_t)written.room, .vec_len = REGIONS_MAX,
		.category_inverted = inverted, .category_mask = inverted, .category_anyof_mask = dump_anyof,
		.return_mask = dump_anyof | PAGE_IS_WRITTEN,
	};
	tracked->first = written.findings;
	while (ask.start < area->end) {
		long count = syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN, &ask);
		if (count < 0)
			return false;
		for (long i = 0; i < count; i++)
			if (!note_finding(&written.room[i]))
				return false;
		uint64_t reached = reached_by(&ask, count);
		if (reached <= ask.start)
			return false;
		ask.start = reached;
	}
	tracked->count = written.findings - tracked->first;
	return true;
}

/* ---- quickly ---- */

static bool note_span(struct tracked_area *tracked, uint64_t from, uint64_t to)
{
	struct page_region *last = tracked->spans > 0 ? &written.span[written.spans - 1] : NULL;
	if (last != NULL && last->end == from) {
		last->end = to;
		return true;
	}
	if (written.spans == written.findings_max)
		return false;
	written.span[written.spans++] = (struct page_region){ .start = from, .end = to };
	tracked->spans++;
	return true;
}

/* What is there of `regions`, which lie near each other: that is what CRIU is told of. */
static bool note_present(int pagemap, const struct page_region *region, size_t regions)
{
	struct pm_scan_arg ask = {
		.size = sizeof ask, .start = region[0].start, .end = region[regions - 1].end,
		.vec = (uintptr_t)written.present, .vec_len = REGIONS_MAX, .category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PFNZERO, .category_anyof_mask = dump_anyof, .return_mask = dump_anyof,
	};
	size_t at = 0;
	while (ask.start < ask.end) {
		long count = syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN, &ask);
		if (count < 0)
			return false;
		for (long i = 0; i < count; i++) {
			const struct page_region *found = &written.present[i];
			for (size_t k = at; k < regions && region[k].start < found->end; k++) {
				struct page_region piece = *found;
				if (region[k].end <= found->start) {
					at = k + 1;
					continue;
				}
				piece.start = region[k].start > piece.start ? region[k].start : piece.start;
				piece.end = region[k].end < piece.end ? region[k].end : piece.end;
				piece.categories |= PAGE_IS_WRITTEN;
				if (!note_finding(&piece))
					return false;
			}
		}
		uint64_t reached = reached_by(&ask, count);
		if (reached <= ask.start)
			return false;
		ask.start = reached;
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

/* Whether all of it is memory, as it was when ftdump made the list. */
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

static bool scan_quickly(int pagemap, int maps, struct tracked_area *tracked)
{
	const struct area *area = &tracked->area;
	if (!is_mapped(maps, area))
		return false;
	struct pm_scan_arg ask = {
		.size = sizeof ask, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = area->start, .end = area->end, .vec = (uintptr_t)written.room, .vec_len = REGIONS_MAX,
		.category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN,
	};
	uint64_t told = area->start;
	tracked->quick = true;
	tracked->first = written.findings;
	tracked->first_span = written.spans;
	tracked->spans = 0;
	while (ask.start < area->end) {
		long count = syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN, &ask);
		if (count < 0)
			return false;
		for (long i = 0; i < count; i++) {
			if (!note_unwritten(pagemap, tracked, told, written.room[i].start))
				return false;
			told = written.room[i].end;
		}
		if (!written.verify && !note_regions(pagemap, written.room, (size_t)count))
			return false;
		uint64_t reached = reached_by(&ask, count);
		if (reached <= ask.start)
			return false;
		ask.start = reached;
	}
	const struct page_region all = { .start = area->start, .end = area->end };
	if (!note_unwritten(pagemap, tracked, told, area->end) || (written.verify && !note_present(pagemap, &all, 1)))
		return false;
	tracked->count = written.findings - tracked->first;
	return true;
}

bool written_quickly(void)
{
	return !written.slow;
}

/* ---- a process ---- */

static bool may_be_quick(const struct area *area)
{
	return written.quick && (area->flags & AREA_WHOLE) == 0 && area->end - area->start <= QUICK_BYTES_MAX;
}

/* The first area of a pid that ends beyond `address`. */
static size_t area_at(uint32_t pid, uint64_t address)
{
	size_t low = 0, high = written.areas;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct area *area = &written.area[middle].area;
		if (area->pid < pid || (area->pid == pid && area->end <= address))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool has_area(size_t at, uint32_t pid)
{
	return at < written.areas && written.area[at].area.pid == pid;
}

static int open_maps(uint32_t pid)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/%u/maps", (unsigned)pid);
	return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

static void scan_process(int pagemap, uint32_t pid)
{
	for (size_t i = 0; i < written.pids; i++)
		if (written.scanned[i] == pid)
			return;
	bool remembered = written.pids < sizeof written.scanned / sizeof *written.scanned;
	if (remembered)
		written.scanned[written.pids++] = pid;
	int maps = written.quick ? open_maps(pid) : -1; /* else all areas count as lost */
	for (size_t at = area_at(pid, 0); has_area(at, pid); at++) {
		struct tracked_area *tracked = &written.area[at];
		size_t before = written.findings, spans_before = written.spans;
		bool quick = may_be_quick(&tracked->area);
		written.slow |= !quick && (tracked->area.flags & AREA_WHOLE) == 0;
		if (remembered && (quick ? scan_quickly(pagemap, maps, tracked) : scan_area(pagemap, tracked)))
			continue;
		written.findings = before;
		written.spans = spans_before;
		tracked->count = tracked->spans = 0;
		tracked->lost = true;
	}
	if (maps >= 0)
		syscall(SYS_close, maps);
}

/* ---- answering ---- */

static bool is_told(const struct tracked_area *tracked, const struct page_region *finding)
{
	return written.verify || (tracked->area.flags & AREA_WHOLE) || (finding->categories & PAGE_IS_WRITTEN);
}

struct answer {
	struct page_region *out;
	size_t count, max;
	uint64_t reached; /* everything before it is answered */
};

/* False: there is no room for more. */
static bool answer_from_finding(struct answer *answer, const struct tracked_area *tracked, uint64_t end)
{
	for (size_t i = tracked->first; i < tracked->first + tracked->count; i++) {
		struct page_region piece = written.finding[i];
		if (piece.end <= answer->reached || !is_told(tracked, &piece))
			continue;
		if (piece.start >= end)
			break;
		if (answer->count == answer->max)
			return false;
		if (piece.start < answer->reached)
			piece.start = answer->reached;
		if (piece.end > end)
			piece.end = end;
		piece.categories &= dump_anyof;
		answer->out[answer->count++] = piece;
		answer->reached = piece.end;
	}
	answer->reached = end;
	return true;
}

static int answer_from_kernel(int pagemap, const struct pm_scan_arg *asked, struct answer *answer, uint64_t end)
{
	while (answer->reached < end) {
		if (answer->count == answer->max)
			return 0;
		struct pm_scan_arg ask = *asked;
		ask.start = answer->reached;
		ask.end = end;
		ask.vec = (uintptr_t)(answer->out + answer->count);
		ask.vec_len = answer->max - answer->count;
		long count = syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN, &ask);
		if (count < 0)
			return -1;
		answer->count += (size_t)count;
		uint64_t reached = reached_by(&ask, count);
		if (reached <= answer->reached)
			return -1;
		answer->reached = reached;
	}
	return 1;
}

/* As the kernel would: the regions in order, and in walk_end how far they go. */
static int answer_question(int pagemap, uint32_t pid, struct pm_scan_arg *asked)
{
	struct answer answer = { .out = (struct page_region *)(uintptr_t)asked->vec, .max = asked->vec_len, .reached = asked->start };
	for (size_t at = area_at(pid, asked->start); answer.reached < asked->end; at++) {
		bool inside = has_area(at, pid) && written.area[at].area.start < asked->end;
		uint64_t start = inside ? written.area[at].area.start : asked->end;
		if (start > answer.reached) {
			int more = answer_from_kernel(pagemap, asked, &answer, start);
			if (more < 0)
				return -1;
			if (more == 0)
				break;
		}
		if (!inside)
			break;
		struct tracked_area *tracked = &written.area[at];
		uint64_t end = tracked->area.end < asked->end ? tracked->area.end : asked->end;
		int more = tracked->lost ? answer_from_kernel(pagemap, asked, &answer, end)
					 : answer_from_finding(&answer, tracked, end);
		if (more < 0)
			return -1;
		if (more == 0)
			break;
	}
	asked->walk_end = answer.reached;
	return (int)answer.count;
}

/* The process whose pagemap this is: of "/proc/7/pagemap", wherever proc is mounted. */
static uint32_t pid_of(int fd)
{
	char path[48], link[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(path, link, sizeof link - 1);
	static const char end[] = "/pagemap";
	if (length <= (ssize_t)sizeof end - 1 || length >= (ssize_t)sizeof link - 1)
		return 0;
	link[length] = 0;
	char *tail = link + length - (sizeof end - 1);
	if (strcmp(tail, end) != 0)
		return 0;
	*tail = 0;
	char *slash = strrchr(link, '/');
	return slash == NULL ? 0 : (uint32_t)strtoul(slash + 1, NULL, 10);
}

static bool is_question(const struct pm_scan_arg *ask)
{
	return ask->vec_len > 0 && ask->start < ask->end && ask->flags == 0 && ask->max_pages == 0 &&
	       ask->category_inverted == dump_inverted && ask->category_mask == dump_inverted &&
	       ask->category_anyof_mask == dump_anyof;
}

/* CRIU looks for guard pages along with the areas; what changes nothing may be asked again later. */
static int scan_before_freeze(int fd, struct pm_scan_arg *argument)
{
	struct pm_scan_arg asked = *argument;
	int count = (int)syscall(SYS_ioctl, fd, PAGEMAP_SCAN, argument);
	if (asked.flags == 0 && !is_question(&asked) && witness_scan(&asked, argument, count))
		return count;
	late_freeze();
	*argument = asked;
	return (int)syscall(SYS_ioctl, fd, PAGEMAP_SCAN, argument);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	if (request == PAGEMAP_SCAN && hook.stage == STAGE_READING)
		return scan_before_freeze(fd, argument);
	/* What it has done to the marks could not be undone. */
	if (request == PAGEMAP_SCAN && hook.stage == STAGE_FROZEN && !late_settle()) {
		errno = ECANCELED;
		return -1;
	}
	if (request == PAGEMAP_SCAN && written.loaded && is_question(argument)) {
		uint32_t pid = pid_of(fd);
		if (pid != 0 && has_area(area_at(pid, 0), pid)) {
			scan_process(fd, pid);
			return answer_question(fd, pid, argument);
		}
	}
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

/* ---- telling ftdump ---- */

static bool write_whole(int fd, const void *bytes, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t done = write(fd, (const char *)bytes + at, length - at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		at += (size_t)done;
	}
	return true;
}

static size_t list_kept(struct area *out)
{
	size_t count = 0;
	for (size_t a = 0; a < written.areas; a++) {
		const struct tracked_area *tracked = &written.area[a];
		if (tracked->lost)
			out[count++] = (struct area){ tracked->area.pid, KEPT_LOST, tracked->area.start, tracked->area.end };
		for (size_t i = tracked->first_span; i < tracked->first_span + tracked->spans; i++)
			out[count++] = (struct area){ tracked->area.pid, KEPT_AS_WAS, written.span[i].start, written.span[i].end };
		if ((tracked->area.flags & AREA_WHOLE) || tracked->quick)
			continue;
		for (size_t i = tracked->first; i < tracked->first + tracked->count; i++)
			if (!(written.finding[i].categories & PAGE_IS_WRITTEN))
				out[count++] = (struct area){ tracked->area.pid, 0, written.finding[i].start, written.finding[i].end };
	}
	return count;
}

void written_save(void)
{
	if (!written.loaded)
		return;
	struct area *kept = malloc((written.areas + written.findings + written.spans + 1) * sizeof *kept);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, ENTER_IMAGES_PATH "/" KEPT_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (kept != NULL && fd >= 0) {
		struct areas_header header = { .magic = KEPT_MAGIC, .count = list_kept(kept) };
		header.crc = ft_crc32c(0, kept, header.count * sizeof *kept);
		if (write_whole(fd, &header, sizeof header) && write_whole(fd, kept, header.count * sizeof *kept))
			(void)syscall(SYS_renameat2, AT_FDCWD, ENTER_IMAGES_PATH "/" KEPT_NAME ".new", AT_FDCWD,
				      ENTER_IMAGES_PATH "/" KEPT_NAME, 0); /* ftdump fails the epoch if it is not there */
	}
	if (fd >= 0)
		close(fd);
	free(kept);
}
