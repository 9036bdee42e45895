/* What CRIU restores, from the flat sets: pages one after the other, and the list of where they belong. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "pages/files.h"
#include "pages/pagemap.h"

enum { SLICE_PAGES = 256 };

struct composer {
	const struct pages_table *table;
	const struct pages_set *set;
	int source, pagemap, pages;
	struct epoch_error *e;
	uint8_t *slice;
};

static int failed(struct composer *c, const char *what)
{
	return epoch_fail(c->e, errno == ENOSPC ? "space" : "io", errno, "images of process %llu: %s",
			  (unsigned long long)c->set->id, what);
}

static int write_whole(int fd, const uint8_t *bytes, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t done = write(fd, bytes + at, length - at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -1;
		at += (size_t)done;
	}
	return 0;
}

static int check_slice(struct composer *c, uint64_t address, size_t pages)
{
	for (size_t i = 0; i < pages; i++) {
		struct page_state state;
		if (!pages_get(c->table, c->set, address + i * PAGE_BYTES, &state) ||
		    ft_crc32c(0, c->slice + i * PAGE_BYTES, PAGE_BYTES) != state.crc)
			return epoch_fail(c->e, "corrupt", 0, "the memory of process %llu is not what was committed",
					  (unsigned long long)c->set->id);
	}
	return 0;
}

static int copy_run(struct composer *c, const struct pages_run *run)
{
	for (uint64_t at = run->from; at < run->to;) {
		size_t pages = (run->to - at) / PAGE_BYTES < SLICE_PAGES ? (run->to - at) / PAGE_BYTES : SLICE_PAGES;
		ssize_t got = pread(c->source, c->slice, pages * PAGE_BYTES, (off_t)at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got != (ssize_t)(pages * PAGE_BYTES))
			return epoch_fail(c->e, "corrupt", got < 0 ? errno : 0, "the memory of process %llu ends early",
					  (unsigned long long)c->set->id);
		if (check_slice(c, at, pages) != 0)
			return -1;
		if (write_whole(c->pages, c->slice, pages * PAGE_BYTES) != 0)
			return failed(c, "pages cannot be written");
		at += pages * PAGE_BYTES;
	}
	return 0;
}

static int compose_runs(struct composer *c)
{
	uint8_t message[PAGEMAP_ENTRY_BYTES_MAX];
	struct pages_run run;
	if (write_whole(c->pagemap, message, pagemap_write_head(message, c->set->pages_id)) != 0)
		return failed(c, "the pagemap cannot be written");
	for (uint64_t at = 0; pages_next_run(c->set, at, &run); at = run.to) {
		struct pagemap_entry entry = { run.from, (run.to - run.from) / PAGE_BYTES, PAGEMAP_PRESENT | (run.lazy ? PAGEMAP_LAZY : 0) };
		if (write_whole(c->pagemap, message, pagemap_write_entry(message, &entry)) != 0)
			return failed(c, "the pagemap cannot be written");
		if (copy_run(c, &run) != 0)
			return -1;
	}
	return 0;
}

/* One of an earlier attempt gives way. */
static int create(int directory, const char *name)
{
	if (unlinkat(directory, name, 0) != 0 && errno != ENOENT)
		return -1;
	return openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

static int compose_set(struct composer *c, int directory, int images)
{
	char name[48];
	snprintf(name, sizeof name, "pagemap-%llu.img", (unsigned long long)c->set->id);
	c->pagemap = create(images, name);
	snprintf(name, sizeof name, "pages-%u.img", c->set->pages_id);
	c->pages = create(images, name);
	c->source = pages_open(directory, c->set->id);
	int result = c->pagemap < 0 || c->pages < 0 ? failed(c, "they cannot be made")
		     : c->source < 0		    ? failed(c, "its pages cannot be opened")
						    : compose_runs(c);
	if (c->pagemap >= 0)
		close(c->pagemap);
	if (c->pages >= 0)
		close(c->pages);
	if (c->source >= 0)
		close(c->source);
	return result;
}

static int check_room(const struct pages_table *table, int images, struct epoch_error *e)
{
	struct statvfs fs;
	uint64_t needs = pages_table_pages(table) * PAGE_BYTES;
	if (fstatvfs(images, &fs) != 0 || (uint64_t)fs.f_bavail * fs.f_frsize >= needs)
		return 0;
	return epoch_fail(e, "space", ENOSPC, "the images of %llu bytes of memory have no room", (unsigned long long)needs);
}

int pages_compose(int directory, const struct pages_table *table, int images, struct epoch_error *e)
{
	struct composer c = { .table = table, .e = e, .slice = malloc(SLICE_PAGES * PAGE_BYTES) };
	if (c.slice == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory");
	int result = check_room(table, images, e);
	for (size_t i = 0; result == 0 && i < table->count; i++) {
		c.set = &table->set[i];
		result = compose_set(&c, directory, images);
	}
	free(c.slice);
	return result;
}
