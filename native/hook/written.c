/*
 * CRIU asks the kernel which pages to dump by ioctl(PAGEMAP_SCAN) on the /proc/PID/pagemap of each process. In areas that are
 * tracked (hook/areas.h) it is told only of pages written since the last epoch; the others are noted for ftdump.
 *
 * Invariants:
 *  - Each area is scanned once a dump, by one call that finds what is written and protects it again; every question of
 *    CRIU's about it is answered from that one finding, so asking twice gives the same answer.
 *  - An area that the kernel does not call tracked, in whole, is answered by the kernel itself: dumped whole.
 *  - What CRIU asks before the freeze (its feature probes) and everything that is not this one question passes through.
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
#include "hook/dirty.h"
#include "hook/hook.h"
#include "hook/late.h"
#include "hook/pagemap_scan.h"
#include "hook/scan.h"
#include "hook/whole.h"
#include "hook/witness.h"

enum { AREAS_MAX = 1 << 20 };
#define QUICK_BYTES_MIN (4ull << 20) /* of an area */
#define QUICK_BYTES_MAX (64ull << 30)

/* What CRIU asks: pages that are there, but no zero pages and none of files. */
static const uint64_t dump_inverted = PAGE_IS_PFNZERO | PAGE_IS_FILE;
static const uint64_t dump_anyof = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;

static struct {
	bool loaded, verify, quick, slow; /* slow: an area that could have been looked through quickly was not */
	struct tracked_area *area;
	size_t areas;
	uint32_t scanned[256];    /* pids whose areas have been scanned */
	size_t pids;
} written;

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
	if ((header.flags & AREAS_SOFT_DIRTY) != 0) {
		dirty_load(list, header.count, header.flags);
		return;
	}
	written.area = calloc(header.count + 1, sizeof *written.area);
	written.quick = (header.flags & AREAS_QUICK) != 0 && (hook.shortcuts & HOOK_QUICK) != 0;
	if (written.area != NULL && scan_prepare(written.quick, header.marker)) {
		for (size_t i = 0; i < header.count; i++)
			written.area[i].area = list[i];
		written.areas = header.count;
		written.verify = (header.flags & AREAS_VERIFY) != 0;
		written.loaded = true;
	}
	free(list);
}

bool written_quickly(void)
{
	return !written.slow;
}

/* ---- a process ---- */

/* Small ones are sooner looked at in one go than asked about three times. */
static bool is_worth_it(const struct area *area)
{
	uint64_t bytes = area->end - area->start;
	return (area->flags & AREA_WHOLE) == 0 && bytes >= QUICK_BYTES_MIN && bytes <= QUICK_BYTES_MAX;
}

static bool may_be_quick(const struct area *area)
{
	return written.quick && is_worth_it(area);
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
	int maps = written.quick ? open_maps(pid) : -1; /* not there: no area is scanned quickly */
	for (size_t at = area_at(pid, 0); has_area(at, pid); at++) {
		struct tracked_area *tracked = &written.area[at];
		size_t before = scan_findings.count, spans_before = scan_spans.count;
		bool quick = may_be_quick(&tracked->area);
		written.slow |= !quick && is_worth_it(&tracked->area);
		if (remembered && (quick ? scan_quickly(pagemap, maps, written.verify, tracked) : scan_plainly(pagemap, tracked)))
			continue;
		scan_findings.count = before;
		scan_spans.count = spans_before;
		tracked->count = tracked->spans = 0;
		tracked->lost = true;
	}
	if (maps >= 0)
		syscall(SYS_close, maps);
}

void written_scan(void)
{
	for (size_t at = 0; written.loaded && at < written.areas; at++) {
		uint32_t pid = written.area[at].area.pid;
		char path[32];
		if (at > 0 && written.area[at - 1].area.pid == pid)
			continue;
		snprintf(path, sizeof path, "/proc/%u/pagemap", (unsigned)pid);
		int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
		if (fd < 0)
			continue; /* CRIU will say why */
		scan_process(fd, pid);
		syscall(SYS_close, fd);
	}
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
		struct page_region piece = scan_findings.at[i];
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
		long count = scan_on(pagemap, &ask);
		if (count < 0)
			return -1;
		answer->count += (size_t)count;
		answer->reached = ask.start;
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

/* CRIU asks of one area after the other, on the same descriptor. */
static struct {
	int fd;
	uint32_t pid;
} last_pagemap = { .fd = -1 };

void written_closed(int fd)
{
	if (fd == last_pagemap.fd)
		last_pagemap.fd = -1;
}

uint32_t written_pagemap_of(int fd)
{
	if (fd != last_pagemap.fd) {
		last_pagemap.pid = pid_of(fd);
		last_pagemap.fd = fd;
	}
	return last_pagemap.pid;
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
	if (request == PAGEMAP_SCAN && hook.stage == STAGE_FROZEN && !late_settle()) {
		errno = ECANCELED;
		return -1;
	}
	if (request == PAGEMAP_SCAN && written.loaded && is_question(argument)) {
		uint32_t pid = written_pagemap_of(fd);
		if (pid != 0 && has_area(area_at(pid, 0), pid)) {
			scan_process(fd, pid);
			return answer_question(fd, pid, argument);
		}
	}
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

/* ---- telling ftdump ---- */

static size_t list_kept(struct area *out)
{
	size_t count = 0;
	for (size_t a = 0; a < written.areas; a++) {
		const struct tracked_area *tracked = &written.area[a];
		if (tracked->lost)
			out[count++] = (struct area){ tracked->area.pid, KEPT_LOST, tracked->area.start, tracked->area.end };
		for (size_t i = tracked->first_span; i < tracked->first_span + tracked->spans; i++)
			out[count++] = (struct area){ tracked->area.pid, KEPT_AS_WAS, scan_spans.at[i].start, scan_spans.at[i].end };
		if ((tracked->area.flags & AREA_WHOLE) || tracked->quick)
			continue;
		for (size_t i = tracked->first; i < tracked->first + tracked->count; i++)
			if (!(scan_findings.at[i].categories & PAGE_IS_WRITTEN))
				out[count++] = (struct area){ tracked->area.pid, 0, scan_findings.at[i].start, scan_findings.at[i].end };
	}
	return count;
}

void written_tell(const struct area *kept, size_t count)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, ENTER_IMAGES_PATH "/" KEPT_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0) {
		const struct areas_header header = { .magic = KEPT_MAGIC, .count = count, .crc = ft_crc32c(0, kept, count * sizeof *kept) };
		if (whole_write(fd, &header, sizeof header) && whole_write(fd, kept, count * sizeof *kept))
			(void)syscall(SYS_renameat2, AT_FDCWD, ENTER_IMAGES_PATH "/" KEPT_NAME ".new", AT_FDCWD,
				      ENTER_IMAGES_PATH "/" KEPT_NAME, 0); /* ftdump fails the epoch if it is not there */
	}
	if (fd >= 0)
		close(fd);
}

void written_save(void)
{
	dirty_save();
	if (!written.loaded)
		return;
	struct area *kept = malloc((written.areas + scan_findings.count + scan_spans.count + 1) * sizeof *kept);
	if (kept != NULL)
		written_tell(kept, list_kept(kept));
	free(kept);
}
