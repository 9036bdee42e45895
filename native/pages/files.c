#include "pages/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "disk/disk.h"
#include "pages/parse.h"

#define MANIFEST_MAGIC "FTPAGES1"
enum { SUM_BYTES = 8, SUM_PRESENT = 1, SUM_LAZY = 2, NAME_BYTES = 32, MANIFEST_HEAD_BYTES = 16, MANIFEST_ENTRY_BYTES = 28 };
enum { ZERO_RUN = 256 };

static const uint8_t zeros[ZERO_RUN * PAGE_BYTES];

static void name_of(uint64_t id, const char *suffix, char out[NAME_BYTES])
{
	snprintf(out, NAME_BYTES, "%llu%s", (unsigned long long)id, suffix);
}

static int io_error(struct epoch_error *e, uint64_t id, const char *what)
{
	bool space = errno == ENOSPC || errno == EDQUOT || errno == ENOMEM;
	return epoch_fail(e, space ? "space" : "io", errno, "pages of process %llu: %s", (unsigned long long)id, what);
}

int pages_open(int directory, uint64_t id)
{
	char name[NAME_BYTES];
	name_of(id, "", name);
	return openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

/* ---- applying ---- */

struct writer {
	uint64_t id; /* 0: none open */
	int pages, sums;
	struct pages_unpacker unpacker;
};

static void close_set(struct writer *w)
{
	if (w->pages >= 0)
		close(w->pages);
	if (w->sums >= 0)
		close(w->sums);
	w->id = 0;
	w->pages = w->sums = -1;
}

static int remove_set(int directory, uint64_t id)
{
	char name[NAME_BYTES];
	name_of(id, "", name);
	if (unlinkat(directory, name, 0) != 0 && errno != ENOENT)
		return -1;
	name_of(id, ".sums", name);
	return unlinkat(directory, name, 0) != 0 && errno != ENOENT ? -1 : 0;
}

static int open_set(struct writer *w, int directory, const struct pages_change *change)
{
	char name[NAME_BYTES];
	if (change->fresh && remove_set(directory, change->id) != 0)
		return -1;
	w->id = change->id;
	name_of(change->id, "", name);
	w->pages = openat(directory, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	name_of(change->id, ".sums", name);
	w->sums = openat(directory, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return w->pages < 0 || w->sums < 0 ? -1 : 0;
}

static int punch(int fd, uint64_t from, uint64_t to)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return -1;
	if (to > (uint64_t)st.st_size)
		to = (uint64_t)st.st_size;
	if (from >= to)
		return 0;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
}

static uint64_t sum_offset(uint64_t address)
{
	return address / PAGE_BYTES * SUM_BYTES;
}

static int drop_pages(const struct writer *w, const struct pages_change *change)
{
	uint64_t end = change->address + change->pages * PAGE_BYTES;
	return punch(w->pages, change->address, end) != 0 || punch(w->sums, sum_offset(change->address), sum_offset(end)) != 0 ? -1 : 0;
}

/* At most ZERO_RUN pages. */
static int write_pages(const struct writer *w, uint64_t address, size_t pages, const uint8_t *bytes, bool lazy)
{
	uint8_t sums[ZERO_RUN * SUM_BYTES];
	for (size_t i = 0; i < pages; i++) {
		put_u32(sums + i * SUM_BYTES, ft_crc32c(0, bytes + i * PAGE_BYTES, PAGE_BYTES));
		put_u32(sums + i * SUM_BYTES + 4, SUM_PRESENT | (lazy ? SUM_LAZY : 0));
	}
	if (disk_write_at(w->pages, bytes, pages * PAGE_BYTES, address) != 0)
		return -1;
	return disk_write_at(w->sums, sums, pages * SUM_BYTES, sum_offset(address));
}

static int write_data(struct writer *w, const struct pages_change *change)
{
	struct epoch_error e;
	const uint8_t *bytes = pages_change_bytes(change, &w->unpacker, &e); /* it has passed: only memory may be missing */
	return bytes == NULL ? -1 : write_pages(w, change->address, change->pages, bytes, change->lazy);
}

static int write_zeros(const struct writer *w, const struct pages_change *change)
{
	for (uint64_t done = 0; done < change->pages;) {
		uint64_t pages = change->pages - done < ZERO_RUN ? change->pages - done : ZERO_RUN;
		if (write_pages(w, change->address + done * PAGE_BYTES, pages, zeros, change->lazy) != 0)
			return -1;
		done += pages;
	}
	return 0;
}

static int apply_change(struct writer *w, int directory, const struct pages_change *change)
{
	switch (change->type) {
	case PAGES_SET: return open_set(w, directory, change);
	case PAGES_DROP: return drop_pages(w, change);
	case PAGES_DATA:
	case PAGES_PACKED: return write_data(w, change);
	case PAGES_ZERO: return write_zeros(w, change);
	case PAGES_GONE: return remove_set(directory, change->id);
	default: close_set(w); return 0;
	}
}

/* Ids in the directory, ascending. -1 with errno. */
static int list_sets(int directory, uint64_t **out, size_t *count)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	size_t room = 0;
	int result = listing == NULL ? -1 : 0;
	*out = NULL;
	*count = 0;
	for (struct dirent *entry; result == 0 && (entry = readdir(listing)) != NULL;) {
		char *end;
		uint64_t id = strtoull(entry->d_name, &end, 10);
		if (id == 0 || strcmp(end, ".sums") != 0)
			continue;
		if (*count == room) {
			room = room ? room * 2 : 16;
			uint64_t *grown = realloc(*out, room * sizeof **out);
			result = grown == NULL ? -1 : 0;
			if (result != 0)
				break;
			*out = grown;
		}
		size_t at = (*count)++;
		for (; at > 0 && (*out)[at - 1] > id; at--)
			(*out)[at] = (*out)[at - 1];
		(*out)[at] = id;
	}
	int error = errno;
	if (listing != NULL)
		closedir(listing);
	else if (fd >= 0)
		close(fd);
	errno = error;
	return result;
}

static bool is_named(const struct epoch_section *section, uint64_t id)
{
	struct epoch_cursor cursor = epoch_cursor_of(section);
	struct pages_change change;
	while (pages_change_next(&cursor, &change, NULL) == 1)
		if (change.type == PAGES_SET && change.id == id)
			return true;
	return false;
}

/* A full section names all that there is. Their memory is given back before the new is written. */
static int remove_unnamed(int directory, const struct epoch_section *section)
{
	uint64_t *id;
	size_t count;
	int result = list_sets(directory, &id, &count);
	for (size_t i = 0; result == 0 && i < count; i++)
		if (!is_named(section, id[i]))
			result = remove_set(directory, id[i]);
	int error = errno;
	free(id);
	errno = error;
	return result;
}

static int write_manifest(int directory, const struct epoch_section *section)
{
	struct epoch_cursor cursor = epoch_cursor_of(section);
	struct pages_change change, set = { 0 };
	uint32_t count = 0, crc = 0;
	uint8_t entry[MANIFEST_ENTRY_BYTES], head[MANIFEST_HEAD_BYTES];
	uint64_t at = sizeof head;
	int fd = openat(directory, "manifest.new", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int result = fd < 0 ? -1 : 0;
	while (result == 0 && pages_change_next(&cursor, &change, NULL) == 1) {
		if (change.type == PAGES_SET)
			set = change;
		if (change.type != PAGES_END)
			continue;
		put_u64(entry, set.id);
		put_u32(entry + 8, set.pages_id);
		put_u64(entry + 12, change.pages);
		put_u64(entry + 20, change.digest);
		crc = ft_crc32c(crc, entry, sizeof entry);
		result = disk_write_at(fd, entry, sizeof entry, at);
		at += sizeof entry;
		count++;
	}
	memcpy(head, MANIFEST_MAGIC, 8);
	put_u32(head + 8, count);
	put_u32(head + 12, ft_crc32c(crc, head, 12));
	if (result == 0)
		result = disk_write_at(fd, head, sizeof head, 0);
	int error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return result == 0 ? renameat(directory, "manifest.new", directory, "manifest") : -1;
}

int pages_apply(int directory, const struct epoch_section *section, bool full, struct epoch_error *e)
{
	struct epoch_cursor cursor = epoch_cursor_of(section);
	struct pages_change change;
	struct writer w = { .pages = -1, .sums = -1 };
	if (full && remove_unnamed(directory, section) != 0)
		return io_error(e, 0, "old ones cannot be removed");
	int more;
	while ((more = pages_change_next(&cursor, &change, e)) == 1)
		if (apply_change(&w, directory, &change) != 0) {
			more = io_error(e, w.id, "they cannot be written");
			break;
		}
	close_set(&w);
	pages_unpacker_close(&w.unpacker);
	if (more == 0 && write_manifest(directory, section) != 0)
		return io_error(e, 0, "the manifest cannot be written");
	return more;
}

/* ---- reading what is there ---- */

static int read_sums(struct pages_table *table, struct pages_set *set, int fd)
{
	uint8_t sums[CHUNK_PAGES * SUM_BYTES];
	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
		at -= at % (off_t)sizeof sums;
		ssize_t got = pread(fd, sums, sizeof sums, at);
		if (got < 0)
			return -1;
		for (ssize_t i = 0; i + SUM_BYTES <= got; i += SUM_BYTES) {
			uint32_t flags = get_u32(sums + i + 4);
			struct page_state state = { .crc = get_u32(sums + i), .lazy = (flags & SUM_LAZY) != 0 };
			uint64_t address = (uint64_t)(at + i) / SUM_BYTES * PAGE_BYTES;
			if ((flags & SUM_PRESENT) && pages_put(table, set, address, &state) != 0)
				return -1;
		}
		at += sizeof sums;
	}
	return errno == ENXIO ? 0 : -1;
}

static int read_set(int directory, struct pages_table *table, uint64_t id)
{
	char name[NAME_BYTES];
	name_of(id, ".sums", name);
	struct pages_set *set = pages_table_add(table, id, 0);
	int fd = set == NULL ? -1 : openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int result = fd < 0 ? -1 : read_sums(table, set, fd);
	int error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return result;
}

/* Gives the sets their images' ids; and, when nothing waits to be applied, all of it must be as it says. */
static int check_manifest(int directory, struct pages_table *table, bool settled, struct epoch_error *e)
{
	uint8_t head[MANIFEST_HEAD_BYTES], entry[MANIFEST_ENTRY_BYTES];
	int fd = openat(directory, "manifest", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return settled && table->count > 0 ? epoch_fail(e, "corrupt", 0, "there are pages without a manifest") : 0;
	uint32_t crc = 0, count = 0, same = 0;
	int bad = fd < 0 || read(fd, head, sizeof head) != sizeof head || memcmp(head, MANIFEST_MAGIC, 8) != 0;
	count = bad ? 0 : get_u32(head + 8);
	for (uint32_t i = 0; !bad && i < count; i++) {
		bad = read(fd, entry, sizeof entry) != sizeof entry;
		if (bad)
			break;
		crc = ft_crc32c(crc, entry, sizeof entry);
		struct pages_set *set = pages_table_find(table, get_u64(entry));
		if (set == NULL)
			continue;
		set->pages_id = get_u32(entry + 8);
		same += set->pages == get_u64(entry + 12) && set->digest == get_u64(entry + 20);
	}
	bad = bad || ft_crc32c(crc, head, 12) != get_u32(head + 12);
	if (fd >= 0)
		close(fd);
	if (bad || (settled && (same != count || table->count != count)))
		return epoch_fail(e, "corrupt", 0, "the pages are not what their manifest says");
	return 0;
}

struct pages_table *pages_read(int directory, bool settled, struct epoch_error *e)
{
	struct pages_table *table = pages_table_new(false);
	uint64_t *id = NULL;
	size_t count = 0;
	int result = table == NULL ? -1 : list_sets(directory, &id, &count);
	for (size_t i = 0; result == 0 && i < count; i++)
		result = read_set(directory, table, id[i]);
	if (result != 0)
		(void)io_error(e, 0, "they cannot be read");
	free(id);
	if (result == 0 && check_manifest(directory, table, settled, e) == 0)
		return table;
	pages_table_free(table);
	return NULL;
}
