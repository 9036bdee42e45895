#include "feed/space.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "dump/clock.h"
#include "pages/records.h"

enum { NO_MEMORY_US_MAX = 5000000 };

static const uint8_t zeros[PAGE_BYTES];
static uint8_t slice[FEED_SLICE_PAGES * PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
static bool is_zero[FEED_SLICE_PAGES];

int space_open(struct space *space, int fd, const struct feed_source *source, struct epoch_error *e)
{
	*space = (struct space){ .fd = fd, .source = source };
	for (size_t i = 0; i < source->set->runs; i++) {
		const struct lazy_run *run = &source->set->run[i];
		if (spans_add(&space->missing, run->from, run->from + run->pages * PAGE_BYTES) != 0)
			return epoch_fail(e, "space", ENOMEM, "no memory");
	}
	return 0;
}

void space_close(struct space *space)
{
	if (space->fd >= 0)
		close(space->fd);
	space->fd = -1;
	spans_free(&space->missing);
}

static enum space_result failed(struct epoch_error *e, const char *code, int error, const char *what, uint64_t address)
{
	epoch_fail(e, code, error, "%s at %llx", what, (unsigned long long)address);
	return SPACE_FAILED;
}

/* ---- giving ---- */

/* The content of `pages` pages, each compared with its sum. */
static enum space_result load(const struct space *space, uint64_t origin, size_t pages, struct epoch_error *e)
{
	for (size_t have = 0; have < pages * PAGE_BYTES;) {
		ssize_t got = pread(space->source->fd, slice + have, pages * PAGE_BYTES - have, (off_t)(origin + have));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return failed(e, "io", got < 0 ? errno : 0, "a page cannot be read", origin + have);
		have += (size_t)got;
	}
	for (size_t i = 0; i < pages; i++) {
		uint32_t sum;
		const uint8_t *page = slice + i * PAGE_BYTES;
		if (!lazy_sum(space->source->set, origin + i * PAGE_BYTES, &sum) || ft_crc32c(0, page, PAGE_BYTES) != sum)
			return failed(e, "corrupt", 0, "a page is not what was committed", origin + i * PAGE_BYTES);
		is_zero[i] = memcmp(page, zeros, PAGE_BYTES) == 0;
	}
	return SPACE_OK;
}

/* Bytes that were given, or -1 with errno; what was given before an error counts. */
static int64_t give(int fd, uint64_t to, const uint8_t *from, uint64_t length)
{
	if (from == NULL) {
		struct uffdio_zeropage zero = { .range = { to, length } };
		int result = ioctl(fd, UFFDIO_ZEROPAGE, &zero);
		return result == 0 ? (int64_t)length : zero.zeropage > 0 ? zero.zeropage : -1;
	}
	struct uffdio_copy copy = { .dst = to, .src = (uint64_t)(uintptr_t)from, .len = length };
	int result = ioctl(fd, UFFDIO_COPY, &copy);
	return result == 0 ? (int64_t)length : copy.copy > 0 ? copy.copy : -1;
}

/*
 * A page for which there is no area may have lost it in this moment, by an operation whose event waits to be read: the kernel
 * looks whether there is such a one, then for the area, in this order. Asked once more it finds the operation (EAGAIN), which lasts
 * until its event has been read. Refused so again, the page has no area.
 */
static int64_t give_page(int fd, uint64_t to, const uint8_t *from)
{
	int64_t given = give(fd, to, from, PAGE_BYTES);
	for (int i = 0; i < 2 && given < 0 && errno == ENOENT; i++)
		given = give(fd, to, from, PAGE_BYTES);
	return given;
}

static enum space_result cut(struct space *space, uint64_t from, uint64_t to, struct epoch_error *e)
{
	if (spans_cut(&space->missing, from, to) == 0)
		return SPACE_OK;
	return failed(e, "space", ENOMEM, "no memory", from);
}

/* After a page was refused. SPACE_OK: it is there, or nobody waits for it any more. */
static enum space_result judge(struct space *space, uint64_t address, bool can_vanish, struct feed_counts *counts, struct epoch_error *e)
{
	switch (errno) {
	case EEXIST:
		counts->present++;
		return SPACE_OK;
	case ENOENT:
		/* No area of ours. An area that ends says so first; a child may never have had it (MADV_DONTFORK). */
		return can_vanish ? SPACE_OK : failed(e, "unregistered", ENOENT, "memory that nobody watches", address);
	case ESRCH: return SPACE_GONE;
	case ENOMEM:
		/* The container is at its limit: something may be given back. */
		if (space->no_memory_since_us == 0)
			space->no_memory_since_us = clock_us();
		if (clock_us() - space->no_memory_since_us > NO_MEMORY_US_MAX)
			return failed(e, "space", ENOMEM, "the container's memory limit does not hold a page", address);
		return SPACE_AGAIN;
	case EAGAIN:
	case EINTR: return SPACE_AGAIN;
	default: return failed(e, "io", errno, "a page cannot be given", address);
	}
}

/* The first pages of the span at `address`, which lies in it. */
static enum space_result fill(struct space *space, uint64_t address, size_t pages_max, struct feed_counts *counts, struct epoch_error *e)
{
	const struct span span = *spans_at(&space->missing, address);
	uint64_t left = (span.end - address) / PAGE_BYTES;
	size_t pages = left < pages_max ? (size_t)left : pages_max;
	bool single = false;
	enum space_result result = load(space, span.origin + (address - span.start), pages, e);
	for (size_t at = 0; result == SPACE_OK && at < pages;) {
		size_t end = at + 1;
		while (!single && end < pages && is_zero[end] == is_zero[at])
			end++;
		uint64_t to = address + at * PAGE_BYTES;
		const uint8_t *bytes = is_zero[at] ? NULL : slice + at * PAGE_BYTES;
		int64_t given = end - at > 1 ? give(space->fd, to, bytes, (end - at) * PAGE_BYTES) : give_page(space->fd, to, bytes);
		if (given > 0) {
			space->no_memory_since_us = 0;
			*(is_zero[at] ? &counts->zero : &counts->copied) += (uint64_t)given / PAGE_BYTES;
		} else if (errno == ENOENT && end - at > 1) {
			single = true; /* of two areas, perhaps */
			continue;
		} else if ((result = judge(space, to, space->forked, counts, e)) == SPACE_OK) {
			given = PAGE_BYTES;
		} else {
			break;
		}
		result = cut(space, to, to + (uint64_t)given, e);
		at += (size_t)given / PAGE_BYTES;
	}
	return result;
}

enum space_result space_step(struct space *space, size_t pages_max, struct feed_counts *counts, struct epoch_error *e)
{
	const struct span *next = spans_at(&space->missing, space->cursor);
	if (next == NULL)
		next = spans_at(&space->missing, 0);
	if (next == NULL)
		return SPACE_OK;
	uint64_t from = next->start > space->cursor ? next->start : space->cursor;
	if (from >= next->end)
		from = next->start; /* from the beginning again */
	enum space_result result = fill(space, from, pages_max, counts, e);
	if (result == SPACE_OK)
		space->cursor = from;
	return result;
}

/* ---- events ---- */

/* Whoever waits for these pages looks again: giving wakes only those for whom a page was put in place. */
static void wake(const struct space *space, uint64_t address)
{
	struct uffdio_range range = { address, PAGE_BYTES };
	(void)ioctl(space->fd, UFFDIO_WAKE, &range); /* fails when nobody is there any more */
}

static enum space_result take_fault(struct space *space, uint64_t address, struct feed_counts *counts, struct epoch_error *e)
{
	address -= address % PAGE_BYTES;
	counts->faults++;
	const struct span *span = spans_at(&space->missing, address);
	enum space_result result = SPACE_OK;
	if (span != NULL && span->start <= address)
		result = fill(space, address, FEED_FAULT_PAGES, counts, e);
	else if (give(space->fd, address, NULL, PAGE_BYTES) < 0)
		result = judge(space, address, true, counts, e);
	if (result != SPACE_FAILED)
		wake(space, address);
	return result == SPACE_AGAIN ? SPACE_OK : result; /* it will fault again */
}

static enum space_result take_fork(const struct space *space, int fd, struct space *child, struct feed_counts *counts, struct epoch_error *e)
{
	counts->forks++;
	*child = (struct space){ .fd = fd, .source = space->source, .forked = true };
	if (spans_copy(&child->missing, &space->missing) != 0)
		return failed(e, "space", ENOMEM, "no memory for a forked process", 0);
	return SPACE_OK;
}

static enum space_result take_move(struct space *space, uint64_t from, uint64_t to, uint64_t length, struct epoch_error *e)
{
	if (spans_move(&space->missing, from, to, length) == 0)
		return SPACE_OK;
	if (errno == ENOMEM)
		return failed(e, "space", ENOMEM, "no memory", from);
	/* Two threads changed the same addresses at once, and their events came in the other order. */
	return failed(e, "disorder", EEXIST, "memory moved to where other memory is missing,", to);
}

enum space_result space_event(struct space *space, struct space *child, struct feed_counts *counts, struct epoch_error *e)
{
	struct uffd_msg message;
	child->fd = -1;
	ssize_t got = read(space->fd, &message, sizeof message);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return SPACE_AGAIN;
	if (got != (ssize_t)sizeof message)
		return failed(e, "io", got < 0 ? errno : EIO, "an event cannot be read", 0);
	switch (message.event) {
	case UFFD_EVENT_PAGEFAULT: return take_fault(space, message.arg.pagefault.address, counts, e);
	case UFFD_EVENT_FORK: return take_fork(space, (int)message.arg.fork.ufd, child, counts, e);
	case UFFD_EVENT_REMAP:
		return take_move(space, message.arg.remap.from, message.arg.remap.to, message.arg.remap.len, e);
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP: return cut(space, message.arg.remove.start, message.arg.remove.end, e);
	default: return failed(e, "io", EPROTO, "an event that is not known", 0);
	}
}
