/* Soft-dirty bits: whether this kernel has them, and who else uses them. And which way of finding written pages is the best that works. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hook/dirty.h"
#include "hook/pagemap_scan.h"
#include "track/probe.h"
#include "track/tracker.h"

enum { PAGES = 4, WRITTEN = 2, CLOSED = 3 };

struct probe {
	int pagemap, clear_refs;
	uint8_t *bytes;
	size_t page_bytes;
};

static bool look(const struct probe *p, uint64_t entry[PAGES])
{
	off_t at = (off_t)((uintptr_t)p->bytes / p->page_bytes * sizeof *entry);
	return pread(p->pagemap, entry, PAGES * sizeof *entry, at) == (ssize_t)(PAGES * sizeof *entry);
}

/* Where it is there, CRIU asks by it, and what it says of soft-dirty bits tells nothing of frames. */
static bool has_pagemap_scan(const struct probe *p)
{
	struct pm_scan_arg scan = { .size = sizeof scan, .start = (uintptr_t)p->bytes, .end = (uintptr_t)p->bytes };
	return ioctl(p->pagemap, PAGEMAP_SCAN, &scan) >= 0 || (errno != ENOTTY && errno != EINVAL);
}

/*
 * Of four pages one is written, and one after it was made read-only and writable again: some kernels (5.19) let that be written without a mark.
 * The others stay as they are.
 */
static int find_a_write(const struct probe *p, char *why, size_t size)
{
	uint64_t before[PAGES], after[PAGES];
	memset(p->bytes, 1, PAGES * p->page_bytes);
	if (!look(p, before))
		return probe_failed(why, size, "/proc/self/pagemap cannot be read");
	if (write(p->clear_refs, "4", 1) != 1)
		return probe_failed(why, size, "soft-dirty bits cannot be cleared");
	uint8_t *closed = p->bytes + CLOSED * p->page_bytes;
	if (mprotect(closed, p->page_bytes, PROT_READ) != 0 || mprotect(closed, p->page_bytes, PROT_READ | PROT_WRITE) != 0)
		return probe_failed(why, size, "memory cannot be protected");
	p->bytes[WRITTEN * p->page_bytes] = *closed = 2;
	if (!look(p, after))
		return probe_failed(why, size, "/proc/self/pagemap cannot be read");
	errno = EPROTO;
	for (size_t i = 0; i < PAGES; i++) {
		bool marked = (after[i] & PAGEMAP_SOFT_DIRTY) != 0;
		if ((before[i] & PAGEMAP_SOFT_DIRTY) == 0 || marked != (i == WRITTEN || i == CLOSED))
			return probe_failed(why, size, marked || i != CLOSED ? "no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)"
									     : "soft-dirty bits miss writes after mprotect()");
		if ((before[i] & PAGEMAP_PRESENT) == 0 || (before[i] & PAGEMAP_FRAME) == 0)
			return probe_failed(why, size, "/proc/self/pagemap does not show frames");
	}
	return 0;
}

static int probe_dirty(char *why, size_t size)
{
	int result;
	errno = 0;
	snprintf(why, size, "%s", "");
	struct probe p = { .page_bytes = (size_t)sysconf(_SC_PAGESIZE) };
	p.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	p.clear_refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	p.bytes = mmap(NULL, PAGES * p.page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p.pagemap < 0 || p.clear_refs < 0 || p.bytes == MAP_FAILED)
		result = probe_failed(why, size, "soft-dirty bits cannot be tried");
	else if (has_pagemap_scan(&p))
		result = (errno = ENOTSUP, probe_failed(why, size, "soft-dirty bits are not used where there is PAGEMAP_SCAN"));
	else
		result = find_a_write(&p, why, size);
	if (p.bytes != MAP_FAILED)
		munmap(p.bytes, PAGES * p.page_bytes);
	if (p.pagemap >= 0)
		close(p.pagemap);
	if (p.clear_refs >= 0)
		close(p.clear_refs);
	return result;
}

/* ---- the choice ---- */

const char *track_called(enum track_mode mode)
{
	static const char *const names[] = { [TRACK_FULL] = "full", [TRACK_SOFT_DIRTY] = "soft-dirty", [TRACK_WP_ASYNC] = "wp-async" };
	return names[mode];
}

enum track_mode track_choose_of(const struct track_ways *ways, enum track_mode best, char *why, size_t size)
{
	char no_bits[TRACK_WHY_BYTES];
	snprintf(why, size, "%s", "");
	if (best == TRACK_FULL) {
		snprintf(why, size, "switched off (tracking: full)");
		return TRACK_FULL;
	}
	if (best == TRACK_WP_ASYNC && ways->wp_async(why, size) == 0)
		return TRACK_WP_ASYNC;
	if (ways->soft_dirty == NULL)
		snprintf(no_bits, sizeof no_bits, "soft-dirty bits are not to be used (mode hybrid)");
	else if (ways->soft_dirty(no_bits, sizeof no_bits) == 0)
		return TRACK_SOFT_DIRTY;
	size_t used = strlen(why);
	snprintf(why + used, size - used, "%s%s", used > 0 ? "; " : "", no_bits);
	return TRACK_FULL;
}

enum track_mode track_choose(enum track_mode best, bool no_bits, char *why, size_t size)
{
	const struct track_ways ways = { .wp_async = track_probe, .soft_dirty = no_bits ? NULL : probe_dirty };
	return track_choose_of(&ways, best, why, size);
}

/* ---- who else ---- */

bool track_clears_refs(pid_t pid)
{
	char path[32], link[64];
	static const char name[] = "/clear_refs";
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	DIR *list = opendir(path);
	bool found = false;
	if (list == NULL)
		return false; /* it has ended */
	for (struct dirent *entry; !found && (entry = readdir(list)) != NULL;) {
		ssize_t length = readlinkat(dirfd(list), entry->d_name, link, sizeof link - 1);
		size_t tail = sizeof name - 1;
		found = length >= (ssize_t)tail && memcmp(link + (size_t)length - tail, name, tail) == 0;
	}
	closedir(list);
	return found;
}
