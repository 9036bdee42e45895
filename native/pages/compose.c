/*
 * What CRIU restores, from the flat sets: pages one after the other, and the list of where they belong. Pages that are to be
 * given later are holes in their file, and stand in a list of their own (pages/lazy.h) beside a link to their set.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "pages/files.h"
#include "pages/lazy.h"
#include "pages/mm.h"
#include "pages/pagemap.h"

enum { SLICE_PAGES = 256 };

struct composer {
	const struct pages_table *table;
	const struct pages_set *set;
	int source, pagemap, pages;
	struct epoch_error *e;
	uint8_t *slice;
	bool lazy;
	struct lazy_writer list;
	struct mm_area *area; /* of the set: where CRIU leaves pages out */
	size_t areas, next_area;
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

/* A piece lies in one chunk. */
static int list_run(struct composer *c, const struct pages_run *run)
{
	const struct pages_chunk *chunk = c->set->chunk[pages_chunk_at(c->set, run->from)];
	uint64_t pages = (run->to - run->from) / PAGE_BYTES;
	if (lazy_add_run(&c->list, run->from, pages, chunk->crc + (run->from - chunk->base) / PAGE_BYTES) != 0)
		return failed(c, "no memory");
	return lseek(c->pages, (off_t)(run->to - run->from), SEEK_CUR) < 0 ? failed(c, "pages cannot be left out") : 0;
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

/* The first piece of a run that is of one kind to CRIU. */
static struct pages_run piece_of(struct composer *c, const struct pages_run *run)
{
	struct pages_run piece = *run;
	if (!c->lazy || !run->lazy)
		return piece;
	while (c->next_area < c->areas && c->area[c->next_area].end <= run->from)
		c->next_area++;
	const struct mm_area *area = c->next_area < c->areas ? &c->area[c->next_area] : NULL;
	uint64_t to = run->from / CHUNK_BYTES * CHUNK_BYTES + CHUNK_BYTES; /* so that its sums have a bound */
	piece.lazy = area != NULL && area->start <= run->from;
	if (piece.lazy && area->end < to)
		to = area->end;
	if (!piece.lazy)
		to = area != NULL ? area->start : run->to;
	if (to < piece.to)
		piece.to = to;
	return piece;
}

static int compose_piece(struct composer *c, const struct pages_run *piece)
{
	uint8_t message[PAGEMAP_ENTRY_BYTES_MAX];
	struct pagemap_entry entry = { piece->from, (piece->to - piece->from) / PAGE_BYTES, PAGEMAP_PRESENT | (piece->lazy ? PAGEMAP_LAZY : 0) };
	if (write_whole(c->pagemap, message, pagemap_write_entry(message, &entry)) != 0)
		return failed(c, "the pagemap cannot be written");
	return c->lazy && piece->lazy ? list_run(c, piece) : copy_run(c, piece);
}

static int compose_runs(struct composer *c)
{
	uint8_t message[PAGEMAP_HEAD_BYTES_MAX];
	struct pages_run run;
	if (write_whole(c->pagemap, message, pagemap_write_head(message, c->set->pages_id)) != 0)
		return failed(c, "the pagemap cannot be written");
	for (uint64_t at = 0; pages_next_run(c->set, at, &run); at = run.to)
		while (run.from < run.to) {
			struct pages_run piece = piece_of(c, &run);
			if (compose_piece(c, &piece) != 0)
				return -1;
			run.from = piece.to;
		}
	/* What was left out at the end has no byte behind it yet. */
	off_t end = lseek(c->pages, 0, SEEK_CUR);
	return end < 0 || ftruncate(c->pages, end) != 0 ? failed(c, "pages cannot be left out") : 0;
}

static int read_areas(struct composer *c, int images)
{
	char name[48];
	struct stat st;
	snprintf(name, sizeof name, "mm-%llu.img", (unsigned long long)c->set->id);
	int fd = openat(images, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), result = -1;
	uint8_t *bytes = fd < 0 || fstat(fd, &st) != 0 ? NULL : malloc((size_t)st.st_size + 1);
	if (bytes != NULL && pread(fd, bytes, (size_t)st.st_size, 0) == (ssize_t)st.st_size)
		result = mm_lazy_areas(bytes, (size_t)st.st_size, &c->area, &c->areas);
	if (result != 0)
		failed(c, "its areas cannot be read");
	free(bytes);
	if (fd >= 0)
		close(fd);
	return result;
}

/* The pages that are left out, under a name that outlives the store. */
static int link_set(struct composer *c, int directory, int images)
{
	char from[24], to[LAZY_NAME_BYTES];
	snprintf(from, sizeof from, "%llu", (unsigned long long)c->set->id);
	lazy_pages_name(c->set->id, to);
	if (unlinkat(images, to, 0) != 0 && errno != ENOENT)
		return failed(c, "an earlier link cannot be removed");
	return linkat(directory, from, images, to, 0) != 0 ? failed(c, "its pages cannot be linked") : 0;
}

static int compose_lazily(struct composer *c, int directory, int images)
{
	c->areas = c->next_area = 0;
	c->area = NULL;
	int result = read_areas(c, images);
	if (result == 0 && lazy_begin_set(&c->list, c->set->id) != 0)
		result = failed(c, "no memory");
	if (result == 0)
		result = compose_runs(c);
	if (result == 0 && lazy_end_set(&c->list) != 0)
		result = failed(c, "no memory");
	free(c->area);
	return result != 0 ? result : link_set(c, directory, images);
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
		     : c->lazy			    ? compose_lazily(c, directory, images)
						    : compose_runs(c);
	if (c->pagemap >= 0)
		close(c->pagemap);
	if (c->pages >= 0)
		close(c->pages);
	if (c->source >= 0)
		close(c->source);
	return result;
}

static uint64_t pages_of_kind(const struct pages_table *table, bool lazy)
{
	uint64_t pages = 0;
	for (size_t i = 0; i < table->count; i++)
		for (size_t k = 0; k < table->set[i].count; k++) {
			const struct pages_chunk *chunk = table->set[i].chunk[k];
			for (size_t word = 0; word < CHUNK_PAGES / 64; word++)
				pages += (uint64_t)__builtin_popcountll(chunk->present[word] & (lazy ? chunk->lazy[word] : ~chunk->lazy[word]));
		}
	return pages;
}

static int check_room(const struct composer *c, int images)
{
	struct statvfs fs;
	uint64_t needs = (c->lazy ? pages_of_kind(c->table, false) : pages_table_pages(c->table)) * PAGE_BYTES;
	if (fstatvfs(images, &fs) != 0 || (uint64_t)fs.f_bavail * fs.f_frsize >= needs)
		return 0;
	return epoch_fail(c->e, "space", ENOSPC, "the images of %llu bytes of memory have no room", (unsigned long long)needs);
}

/* A list of an earlier attempt would be believed. Links are possible within one file system only. */
static int prepare(struct composer *c, int directory, int images, uint64_t lazy_from)
{
	struct stat here, there;
	if (unlinkat(images, LAZY_LIST_NAME, 0) != 0 && errno != ENOENT)
		return epoch_fail(c->e, "io", errno, "an earlier list of lazy pages cannot be removed");
	if (fstat(directory, &here) != 0 || fstat(images, &there) != 0)
		return epoch_fail(c->e, "io", errno, "the images cannot be looked at");
	c->lazy = here.st_dev == there.st_dev && c->table->count <= LAZY_SETS_MAX && pages_of_kind(c->table, true) * PAGE_BYTES >= lazy_from;
	return check_room(c, images);
}

int pages_compose(int directory, const struct pages_table *table, int images, uint64_t lazy_from, uint64_t *lazy_pages,
		  struct epoch_error *e)
{
	struct composer c = { .table = table, .e = e, .slice = malloc(SLICE_PAGES * PAGE_BYTES) };
	if (c.slice == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory");
	int result = prepare(&c, directory, images, lazy_from);
	for (size_t i = 0; result == 0 && i < table->count; i++) {
		c.set = &table->set[i];
		result = compose_set(&c, directory, images);
	}
	if (result == 0 && c.lazy && lazy_write(&c.list, images) != 0)
		result = epoch_fail(e, errno == ENOSPC ? "space" : "io", errno, "the list of lazy pages cannot be written");
	*lazy_pages = c.list.pages;
	lazy_free(&c.list);
	free(c.slice);
	return result;
}
