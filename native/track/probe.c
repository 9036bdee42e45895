/* Whether this kernel finds written pages: not by its version, but by letting it find one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "hook/pagemap_scan.h"
#include "track/probe.h"
#include "track/tracker.h"

#define PAGES 4u
enum { TABLE_PAGES = 512, TOLD_MAX = 8 };

struct probe {
	int fd, pagemap;
	uint8_t *bytes;
	size_t page_bytes;
};

int probe_failed(char *why, size_t size, const char *what)
{
	int error = errno != 0 ? errno : EPROTO;
	snprintf(why, size, "%s: %s", what, strerror(error));
	return error;
}

/* Which of the pages were written since the last call, as bits; they are protected again. Negative: errno is set. */
static int written(const struct probe *p)
{
	struct page_region region[PAGES];
	struct pm_scan_arg scan = {
		.size = sizeof scan, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)p->bytes, .end = (uintptr_t)p->bytes + PAGES * p->page_bytes,
		.vec = (uintptr_t)region, .vec_len = PAGES, .category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN,
	};
	long regions = ioctl(p->pagemap, PAGEMAP_SCAN, &scan);
	int bits = regions < 0 ? -1 : 0;
	for (long i = 0; i < regions; i++)
		for (uint64_t at = region[i].start; at < region[i].end; at += p->page_bytes)
			bits |= 1 << (at - scan.start) / p->page_bytes;
	return bits;
}

static int find_a_write(struct probe *p, char *why, size_t size)
{
	memset(p->bytes, 1, PAGES * p->page_bytes);
	if (track_register(p->fd, (uintptr_t)p->bytes, (uintptr_t)p->bytes + PAGES * p->page_bytes) != 0)
		return probe_failed(why, size, "memory cannot be registered for tracking");
	if (written(p) < 0)
		return probe_failed(why, size, "PAGEMAP_SCAN cannot protect pages again");
	p->bytes[2 * p->page_bytes] = 2;
	int bits = written(p);
	if (bits < 0)
		return probe_failed(why, size, "PAGEMAP_SCAN");
	if (bits == 1 << 2 && written(p) == 0)
		return 0;
	errno = EPROTO;
	return probe_failed(why, size, "the kernel does not say rightly which page was written");
}

int track_probe(char *why, size_t size)
{
	snprintf(why, size, "%s", "");
#ifndef __x86_64__
	errno = ENOSYS; /* track/inject.c */
	return probe_failed(why, size, "on this processor no process can be made to give a userfaultfd");
#endif
	int result;
	errno = 0;
	struct probe p = { .page_bytes = (size_t)sysconf(_SC_PAGESIZE) };
	p.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	p.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	p.bytes = mmap(NULL, PAGES * p.page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p.fd < 0)
		result = probe_failed(why, size, "the kernel gives no userfaultfd");
	else if (track_negotiate(p.fd) != 0)
		result = probe_failed(why, size, "its userfaultfd has no asynchronous write protection (Linux 6.7 or newer has)");
	else if (p.pagemap < 0 || p.bytes == MAP_FAILED)
		result = probe_failed(why, size, "the probe cannot be set up");
	else
		result = find_a_write(&p, why, size);
	if (p.bytes != MAP_FAILED)
		munmap(p.bytes, PAGES * p.page_bytes);
	if (p.fd >= 0)
		close(p.fd);
	if (p.pagemap >= 0)
		close(p.pagemap);
	return result;
}

/* ---- the quick scan ---- */

/* Before Linux 6.14 it took some pages that are swapped out for marked ones. That cannot be tried without making the host swap. */
static bool is_mended(void)
{
	struct utsname name;
	int major = 0, minor = 0;
	return uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 14));
}

/* Whether of `pages` from the table's first on exactly those are told of whose bits are set. */
static bool tells_of(const struct probe *p, unsigned pages, unsigned bits)
{
	struct page_region region[TOLD_MAX];
	struct pm_scan_arg scan = {
		.size = sizeof scan, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)p->bytes, .end = (uintptr_t)p->bytes + pages * p->page_bytes,
		.vec = (uintptr_t)region, .vec_len = TOLD_MAX, .category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN,
	};
	unsigned told = 0;
	long regions = ioctl(p->pagemap, PAGEMAP_SCAN, &scan);
	for (long i = 0; i < regions; i++)
		for (uint64_t at = region[i].start; at < region[i].end; at += p->page_bytes)
			told |= at - scan.start < 32 * p->page_bytes ? 1u << (at - scan.start) / p->page_bytes : 0;
	return regions >= 0 && told == bits;
}

static bool first_is_marked(const struct probe *p)
{
	uint64_t entry = 0;
	off_t at = (off_t)((uintptr_t)p->bytes / p->page_bytes * sizeof entry);
	return pread(p->pagemap, &entry, sizeof entry, at) == (ssize_t)sizeof entry && (entry >> 57 & 1) != 0;
}

/* In one page table: pages that are written, dropped, written again, read where there is none, and the table given up as a whole. */
static uint64_t is_right(const struct probe *p)
{
	enum { SOME = 8 };
	const volatile uint8_t *read_only = p->bytes + 10 * p->page_bytes;
	memset(p->bytes, 1, SOME * p->page_bytes);
	if (track_register(p->fd, (uintptr_t)p->bytes, (uintptr_t)p->bytes + TABLE_PAGES * p->page_bytes) != 0)
		return false;
	if (!tells_of(p, SOME, 0xff) || !tells_of(p, SOME, 0) || !tells_of(p, 16, 0xff00) || !tells_of(p, 16, 0))
		return false;
	p->bytes[2 * p->page_bytes] = 2;
	if (madvise(p->bytes + 3 * p->page_bytes, p->page_bytes, MADV_DONTNEED) != 0 || !tells_of(p, SOME, 1 << 2 | 1 << 3))
		return false;
	p->bytes[3 * p->page_bytes] = 3;
	p->bytes[9 * p->page_bytes] = 9;
	(void)*read_only;
	if (!tells_of(p, 16, 1 << 3 | 1 << 9) || !tells_of(p, 16, 0) || !first_is_marked(p))
		return false;
	if (madvise(p->bytes, TABLE_PAGES * p->page_bytes, MADV_DONTNEED) != 0)
		return false;
	return !first_is_marked(p) || tells_of(p, SOME, 0xff);
}

static uint64_t entry_of(const struct probe *p, const uint8_t *page)
{
	uint64_t entry = 0;
	off_t at = (off_t)((uintptr_t)page / p->page_bytes * sizeof entry);
	return pread(p->pagemap, &entry, sizeof entry, at) == (ssize_t)sizeof entry ? entry : 0;
}

/* Its kind is one that no swap file can have; who may not see it (the low bits are 0) cannot tell it from others. */
static uint64_t find_marker(const struct probe *p)
{
	const uint64_t present = 1ull << 63, swapped = 1ull << 62, marked = 1ull << 57, soft_dirty = 1ull << 55, where = soft_dirty - 1;
	if (track_register(p->fd, (uintptr_t)p->bytes, (uintptr_t)p->bytes + PAGES * p->page_bytes) != 0 || written(p) != (1 << PAGES) - 1)
		return 0;
	uint64_t entry = entry_of(p, p->bytes) & ~soft_dirty;
	bool is_one = (entry & (present | swapped | marked)) == (swapped | marked) && (entry & where) != 0;
	for (unsigned i = 1; i < PAGES; i++)
		is_one = is_one && (entry_of(p, p->bytes + i * p->page_bytes) & ~soft_dirty) == entry;
	return is_one ? entry : 0;
}

/* With a userfaultfd, and `size` bytes of memory that nobody has touched, aligned to a page table's. */
static uint64_t try_on(uint64_t (*find)(const struct probe *p), size_t size)
{
	struct probe p = { .page_bytes = (size_t)sysconf(_SC_PAGESIZE) };
	p.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	p.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint8_t *room = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t found = 0;
	if (p.fd >= 0 && p.pagemap >= 0 && room != MAP_FAILED && track_negotiate(p.fd) == 0 && madvise(room, 2 * size, MADV_NOHUGEPAGE) == 0) {
		p.bytes = room + (size - (uintptr_t)room % size) % size;
		found = find(&p);
	}
	if (room != MAP_FAILED)
		munmap(room, 2 * size);
	if (p.fd >= 0)
		close(p.fd);
	if (p.pagemap >= 0)
		close(p.pagemap);
	return found;
}

bool track_probe_quick(void)
{
	return is_mended() && try_on(is_right, TABLE_PAGES * (size_t)sysconf(_SC_PAGESIZE)) != 0;
}

uint64_t track_probe_marker(void)
{
	return try_on(find_marker, TABLE_PAGES * (size_t)sysconf(_SC_PAGESIZE));
}
