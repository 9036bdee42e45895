/* Whether this kernel finds written pages: not by its version, but by letting it find one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/pagemap_scan.h"
#include "track/tracker.h"

#define PAGES 4u

struct probe {
	int fd, pagemap;
	uint8_t *bytes;
	size_t page_bytes;
};

static int failed(char *why, size_t size, const char *what)
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
		return failed(why, size, "memory cannot be registered for tracking");
	if (written(p) < 0)
		return failed(why, size, "PAGEMAP_SCAN cannot protect pages again");
	p->bytes[2 * p->page_bytes] = 2;
	int bits = written(p);
	if (bits < 0)
		return failed(why, size, "PAGEMAP_SCAN");
	if (bits == 1 << 2 && written(p) == 0)
		return 0;
	errno = EPROTO;
	return failed(why, size, "the kernel does not say rightly which page was written");
}

int track_probe(char *why, size_t size)
{
	snprintf(why, size, "%s", "");
#ifndef __x86_64__
	errno = ENOSYS; /* track/inject.c */
	return failed(why, size, "on this processor no process can be made to give a userfaultfd");
#endif
	int result;
	errno = 0;
	struct probe p = { .page_bytes = (size_t)sysconf(_SC_PAGESIZE) };
	p.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	p.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	p.bytes = mmap(NULL, PAGES * p.page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p.fd < 0)
		result = failed(why, size, "the kernel gives no userfaultfd");
	else if (track_negotiate(p.fd) != 0)
		result = failed(why, size, "its userfaultfd has no asynchronous write protection (Linux 6.7 or newer has)");
	else if (p.pagemap < 0 || p.bytes == MAP_FAILED)
		result = failed(why, size, "the probe cannot be set up");
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
