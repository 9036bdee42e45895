/* The checked pread() is an inline function over the one that is defined here. */
#undef _FORTIFY_SOURCE
#include "hook/dirty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "enter/enter.h"
#include "hook/hook.h"
#include "hook/written.h"

enum { PAGE = 4096, ENTRY_BYTES = sizeof(uint64_t) };

static struct {
	bool loaded, broken;
	struct dirty_look look;
	struct area *area;
	struct frames before, now;
	struct kept_list kept;
} dirty;

static bool look_up(const volatile char *page, uint64_t *entry, size_t count)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	ssize_t bytes = (ssize_t)(count * ENTRY_BYTES);
	bool seen = fd >= 0 && syscall(SYS_pread64, fd, entry, bytes, (uintptr_t)page / PAGE * ENTRY_BYTES) == bytes;
	if (fd >= 0)
		syscall(SYS_close, fd);
	return seen;
}

/* The frame of the page of zeros; 0: frames are not shown to us. */
static uint64_t find_zero(void)
{
	uint64_t entry = 0;
	volatile const char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return 0;
	(void)*page;
	bool seen = look_up(page, &entry, 1);
	munmap((void *)(uintptr_t)page, PAGE);
	return seen && (entry & PAGEMAP_PRESENT) != 0 ? entry & PAGEMAP_FRAME : 0;
}

/*
 * The first frame of the huge page of zeros, which is one and the same as long as anybody has it; so it is not given back. 0: there is none,
 * or the kernel does not give it (any more).
 */
static uint64_t find_zeros(void)
{
	const size_t bytes = HUGE_PAGES * PAGE;
	uint64_t entry[HUGE_PAGES];
	char *room = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return 0;
	volatile const char *page = room + (bytes - (uintptr_t)room % bytes) % bytes;
	if (madvise(room, 2 * bytes, MADV_HUGEPAGE) != 0)
		return 0;
	(void)*page;
	if (!look_up(page, entry, HUGE_PAGES) || (entry[0] & PAGEMAP_FRAME) % HUGE_PAGES != 0)
		return 0;
	for (size_t i = 0; i < HUGE_PAGES; i++)
		if ((entry[i] & PAGEMAP_PRESENT) == 0 || (entry[i] & PAGEMAP_FRAME) != (entry[0] & PAGEMAP_FRAME) + i)
			return 0;
	return entry[0] & PAGEMAP_FRAME;
}

void dirty_load(struct area *area, size_t areas, uint32_t flags)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, ENTER_IMAGES_PATH "/" FRAMES_BEFORE_NAME, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		(void)frames_read(fd, &dirty.before); /* else everything is dumped */
		syscall(SYS_close, fd);
	}
	dirty.area = area;
	dirty.look = (struct dirty_look){ .area = area, .areas = areas, .before = &dirty.before, .zero = find_zero(), .zeros = find_zeros(),
					  .show = (flags & AREAS_VERIFY) != 0, .any_frame = (flags & AREAS_ANY_FRAME) != 0,
					  .now = &dirty.now, .kept = &dirty.kept };
	dirty.broken = dirty.look.zero == 0;
	dirty.loaded = true;
}

static ssize_t read_at(int fd, void *room, size_t size, off64_t at)
{
	ssize_t got = syscall(SYS_pread64, fd, room, size, at);
	if (got <= 0 || !dirty.loaded || dirty.broken || hook.stage != STAGE_FROZEN)
		return got;
	uint32_t pid = written_pagemap_of(fd);
	if (pid != 0 && at % ENTRY_BYTES == 0)
		dirty.broken = dirty_filter(&dirty.look, pid, (uint64_t)at / ENTRY_BYTES * PAGE, room, (size_t)got / ENTRY_BYTES) != 0;
	return got;
}

#undef pread
#undef pread64
ssize_t pread(int fd, void *room, size_t size, off_t at)
{
	return read_at(fd, room, size, at);
}

ssize_t pread64(int fd, void *room, size_t size, off64_t at)
{
	return read_at(fd, room, size, at);
}

static int by_place(const void *a, const void *b)
{
	const struct area *x = a, *y = b;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->start < y->start ? -1 : x->start > y->start;
}

/* In order, and one where CRIU has asked twice. */
static void settle(struct kept_list *kept)
{
	size_t count = 0;
	if (kept->count > 1)
		qsort(kept->at, kept->count, sizeof *kept->at, by_place);
	for (size_t i = 0; i < kept->count; i++) {
		struct area *last = count > 0 ? &kept->at[count - 1] : NULL;
		if (last == NULL || last->pid != kept->at[i].pid || last->end < kept->at[i].start)
			kept->at[count++] = kept->at[i];
		else if (kept->at[i].end > last->end)
			last->end = kept->at[i].end;
	}
	kept->count = count;
}

/* What is not known of the frames is not told: the next dump is whole. */
void dirty_save(void)
{
	if (!dirty.loaded)
		return;
	settle(&dirty.kept);
	written_tell(dirty.kept.at, dirty.kept.count);
	if (dirty.broken)
		return;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, ENTER_IMAGES_PATH "/" FRAMES_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	(void)frames_write(fd, &dirty.now); /* one that is cut off does not verify */
	syscall(SYS_close, fd);
}
