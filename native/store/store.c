/* Opening (with what a kill left) and committing. */
#include "store/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "disk/disk.h"
#include "fault/fault.h"
#include "images/apply.h"
#include "pages/files.h"
#include "pages/parse.h"

static void journal_name(uint64_t number, char out[17])
{
	snprintf(out, 17, "%016llx", (unsigned long long)number);
}

/* ---- what a blob says, checked as far as it can be without the container ---- */

static int check_files(const struct store *s, const struct epoch_reader *r, struct journal_entry *entry, struct epoch_error *e)
{
	const struct epoch_header *h = epoch_reader_header(r);
	const struct epoch_section *section;
	struct files_section *files = malloc(sizeof *files);
	unsigned char seen[FILES_ROOTS_MAX] = {0};
	int result = files == NULL ? epoch_fail(e, "space", ENOMEM, "no memory") : 0;
	for (uint32_t i = 0; result == 0 && (section = epoch_reader_section(r, i)) != NULL; i++) {
		if (section->kind != EPOCH_SECTION_FILES)
			continue;
		size_t root = 0;
		result = files_check(section, files, e);
		while (result == 0 && root < s->roots.count && strcmp(s->roots.name[root], files->name) != 0)
			root++;
		if (result == 0 && (root == s->roots.count || seen[root]++))
			result = epoch_fail(e, "corrupt", 0, "it has files of a root that is not this pair's: %.100s", files->name);
		if (result == 0 && files->reset != (h->files_seq == 1))
			result = epoch_fail(e, "corrupt", 0, "its files contradict its header");
		entry->has_files |= files != NULL && files->ops.at < files->ops.end;
		/* A new chain must be applied even if it is empty: it takes away what was there. */
		entry->has_files |= files != NULL && files->reset;
		entry->file_needs += files != NULL ? files->bytes + files->entries * 4096 : 0;
	}
	free(files);
	return result;
}

/* What a blob makes of images and pages; both NULL when it leaves them as they are. */
struct tables {
	struct images_table *images;
	struct pages_table *pages;
};

static void free_tables(struct tables *tables)
{
	images_table_free(tables->images);
	pages_table_free(tables->pages);
}

const struct epoch_section *store_pages_section(const struct epoch_reader *r)
{
	const struct epoch_section *section;
	for (uint32_t i = 0; (section = epoch_reader_section(r, i)) != NULL; i++)
		if (section->kind == EPOCH_SECTION_PAGES)
			return section;
	return NULL;
}

/* Fills the entry and gives the tables after it. */
static int check_blob(const struct store *s, struct journal_entry *entry, const struct store_state *before, struct tables *out,
                      struct epoch_error *e)
{
	const struct epoch_header *h = epoch_reader_header(entry->reader);
	*out = (struct tables){0};
	if (strcmp(h->pair, s->options.pair) != 0)
		return epoch_fail(e, "corrupt", 0, "it is of pair %s", h->pair);
	if (state_accepts(before, h, e) != 0 || check_files(s, entry->reader, entry, e) != 0)
		return -1;
	entry->bytes = h->total_bytes;
	if (h->flags & EPOCH_FILES_ONLY)
		return 0;
	const struct epoch_section *images = epoch_reader_section(entry->reader, h->section_count - 1);
	struct images_table *empty = h->flags & EPOCH_FULL ? images_table_empty() : NULL;
	if (h->flags & EPOCH_FULL && empty == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory for a table of images");
	out->images = images_table_next(empty ? empty : s->table, images, entry->redo && !empty, e);
	images_table_free(empty);
	if (out->images != NULL)
		out->pages = pages_table_next(s->pages, store_pages_section(entry->reader), h->flags & EPOCH_FULL, entry->redo, e);
	if (out->pages != NULL) {
		entry->image_needs = images_apply_needs(images) + pages_apply_needs(s->pages, out->pages);
		return 0;
	}
	free_tables(out);
	*out = (struct tables){0};
	return -1;
}

/* ---- opening ---- */

static int open_directory(int at, const char *name, struct epoch_error *e)
{
	if (mkdirat(at, name, 0700) != 0 && errno != EEXIST)
		return epoch_fail(e, errno == ENOSPC ? "space" : "io", errno, "%s cannot be made", name);
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 ? fd : epoch_fail(e, "io", errno, "%s cannot be opened", name);
}

static int read_roots(struct store *s, struct epoch_error *e)
{
	struct files_root *roots;
	size_t count;
	int line;
	if (files_roots_read(s->options.roots, &roots, &count, &line) != 0)
		return epoch_fail(e, "io", errno, "the roots file %.120s cannot be read, line %d", s->options.roots, line);
	for (size_t i = 0; i < count; i++)
		if ((s->roots.name[s->roots.count] = strdup(roots[i].name)) != NULL)
			s->roots.count++;
	free(roots);
	return s->roots.count == count ? 0 : epoch_fail(e, "space", ENOMEM, "no memory");
}

static int is_blob(const struct dirent *entry)
{
	return strlen(entry->d_name) == 16 && strspn(entry->d_name, "0123456789abcdef") == 16;
}

static void enqueue(struct store *s, const struct journal_entry *entry)
{
	pthread_mutex_lock(&s->lock);
	assert(s->journal_count < STORE_JOURNAL_MAX);
	s->journal[(s->journal_first + s->journal_count++) % STORE_JOURNAL_MAX] = *entry;
	s->journal_bytes += entry->bytes;
	s->image_needs += entry->image_needs;
	s->file_needs += entry->file_needs;
	pthread_cond_broadcast(&s->moved);
	pthread_mutex_unlock(&s->lock);
}

static void take(struct store *s, const struct journal_entry *entry, const struct tables *after)
{
	state_advance(&s->committed, epoch_reader_header(entry->reader));
	if (after->images != NULL) {
		images_table_free(s->table);
		pages_table_free(s->pages);
		s->table = after->images;
		s->pages = after->pages;
	}
	s->next_number = entry->number + 1;
	enqueue(s, entry);
}

/* A blob of the journal after a start. It was verified before; it is again, since it may have been there for long. */
static int recover_blob(struct store *s, const char *name, struct epoch_error *e)
{
	struct journal_entry entry = {.number = strtoull(name, NULL, 16)};
	struct tables after;
	if (entry.number <= s->state.applied) /* applied, and killed before it was taken away */
		return unlinkat(s->journalfd, name, 0) == 0 ? 0 : epoch_fail(e, "io", errno, "an applied epoch cannot be removed");
	if (entry.number != s->next_number || s->journal_count == STORE_JOURNAL_MAX)
		return epoch_fail(e, "corrupt", 0, "the journal has a gap before %s", name);
	entry.redo = s->journal_count == 0;
	int fd = openat(s->journalfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int result = fd < 0 ? epoch_fail(e, "io", errno, "an epoch of the journal cannot be opened")
	                    : epoch_reader_open(fd, s->options.blob_bytes_max, &entry.reader, e);
	if (fd >= 0)
		close(fd);
	if (result == 0)
		result = check_blob(s, &entry, &s->committed, &after, e);
	if (result == 0)
		take(s, &entry, &after);
	else
		epoch_reader_close(entry.reader);
	return result;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int recover(struct store *s, struct epoch_error *e)
{
	struct dirent **list = NULL;
	int images = open_directory(s->dirfd, "images", e);
	if (images < 0 || (s->table = images_table_read(images, e)) == NULL) {
		if (images >= 0)
			close(images);
		return -1;
	}
	close(images);
	s->committed = s->state;
	s->next_number = s->state.applied + 1;
	int count = scandirat(s->journalfd, ".", &list, is_blob, by_name), result = 0;
	if (count < 0)
		return epoch_fail(e, "io", errno, "the journal cannot be read");
	int pages = open_directory(s->dirfd, "pages", e);
	/* A blob in the journal may be applied in part: then it says itself what must come of it. */
	s->pages = pages < 0 ? NULL : pages_read(pages, count == 0, e);
	if (pages >= 0)
		close(pages);
	result = s->pages == NULL ? -1 : 0;
	for (int i = 0; i < count; i++) {
		if (result == 0)
			result = recover_blob(s, list[i]->d_name, e);
		free(list[i]);
	}
	free(list);
	return result;
}

static int open_parts(struct store *s, struct epoch_error *e)
{
	if (mkdir(s->options.dir, 0700) != 0 && errno != EEXIST)
		return epoch_fail(e, "io", errno, "%.150s cannot be made", s->options.dir);
	s->dirfd = open(s->options.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		return epoch_fail(e, "io", errno, "%.150s cannot be opened", s->options.dir);
	s->journalfd = open_directory(s->dirfd, "journal", e);
	if (s->journalfd < 0 || read_roots(s, e) != 0 || state_read(s->dirfd, s->options.pair, &s->state, e) != 0)
		return -1;
	if (unlinkat(s->journalfd, "incoming", 0) != 0 && errno != ENOENT)
		return epoch_fail(e, "io", errno, "a leftover of the journal cannot be removed");
	return recover(s, e);
}

struct store *store_open(const struct store_options *options, struct epoch_error *e)
{
	pthread_condattr_t attributes;
	struct store *s = calloc(1, sizeof *s);
	if (s == NULL) {
		epoch_fail(e, "space", ENOMEM, "no memory");
		return NULL;
	}
	s->options = *options;
	s->dirfd = s->journalfd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&s->moved, &attributes);
	pthread_condattr_destroy(&attributes);
	if (open_parts(s, e) == 0 && store_attach(s, options->root_pid, e) >= 0 && (s->running || applier_start(s, e) == 0))
		return s;
	store_close(s);
	return NULL;
}

void store_close(struct store *s)
{
	if (s == NULL)
		return;
	applier_stop(s);
	for (; s->journal_count > 0; s->journal_count--) {
		epoch_reader_close(s->journal[s->journal_first].reader);
		s->journal_first = (s->journal_first + 1) % STORE_JOURNAL_MAX;
	}
	store_unprepare(s);
	images_table_free(s->table);
	pages_table_free(s->pages);
	for (size_t i = 0; i < s->roots.count; i++) {
		tracked_close(s->roots.tracked[i]);
		free(s->roots.name[i]);
	}
	if (s->journalfd >= 0)
		close(s->journalfd);
	if (s->dirfd >= 0)
		close(s->dirfd);
	pthread_cond_destroy(&s->moved);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- committing ---- */

static uint64_t room_at(int fd)
{
	struct statvfs fs;
	if (fstatvfs(fd, &fs) != 0)
		return 0;
	return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static int has_room(int fd, uint64_t needs, const char *what, struct epoch_error *e)
{
	uint64_t room = room_at(fd);
	if (needs == 0 || room >= needs + STORE_MARGIN_BYTES)
		return 0;
	return epoch_fail(e, "space", ENOSPC, "%s has %llu bytes left, %llu are needed", what, (unsigned long long)room,
	                  (unsigned long long)(needs + STORE_MARGIN_BYTES));
}

static int check_container_room(int container, const struct journal_entry *entry, uint64_t file_needs,
                                struct epoch_error *e)
{
	struct files_section *files = malloc(sizeof *files);
	const struct epoch_section *section;
	int result = files == NULL ? epoch_fail(e, "space", ENOMEM, "no memory") : 0;
	for (uint32_t i = 0; result == 0 && (section = epoch_reader_section(entry->reader, i)) != NULL; i++) {
		if (section->kind != EPOCH_SECTION_FILES || files_check(section, files, e) != 0 || files->bytes + files->entries == 0)
			continue;
		int root = files_root_open(container, files);
		if (root < 0) {
			result = epoch_fail(e, "root", errno, "the standby container has no %.100s", files->name);
			break;
		}
		/* What waits in the journal may be for this file system, too. */
		result = has_room(root, file_needs, files->name, e);
		close(root);
	}
	free(files);
	return result;
}

/* Whether what is about to be acknowledged can be applied later. */
static int check_room(struct store *s, int blob, const struct journal_entry *entry, struct epoch_error *e)
{
	struct stat from, to;
	if (fstat(blob, &from) != 0 || fstat(s->journalfd, &to) != 0)
		return epoch_fail(e, "io", errno, "the epoch cannot be looked at");
	uint64_t copy = from.st_dev != to.st_dev ? entry->bytes : 0;
	pthread_mutex_lock(&s->lock);
	struct epoch_error trouble = s->trouble;
	uint64_t images = copy + s->image_needs + entry->image_needs, files = s->file_needs + entry->file_needs, pid = s->root_pid,
	         start = s->root_start;
	pthread_mutex_unlock(&s->lock);
	if (trouble.code[0] != 0)
		return epoch_fail(e, trouble.code, trouble.error, "epochs before it cannot be applied: %.160s", trouble.detail);
	if (has_room(s->dirfd, images, "the store", e) != 0)
		return -1;
	if (pid == 0 || !entry->has_files)
		return 0;
	int container = container_open(pid, start);
	if (container < 0)
		return epoch_fail(e, "root", errno, "the standby container's process %llu is gone", (unsigned long long)pid);
	int result = check_container_room(container, entry, files, e);
	close(container);
	return result;
}

/* Into the journal directory, from another file system. */
static int copy_in(struct store *s, int from, const char *name, struct epoch_error *e)
{
	struct stat st;
	int to = openat(s->journalfd, "incoming", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int result = to < 0 || fstat(from, &st) != 0 ? -1 : 0;
	for (off_t at = 0; result == 0 && at < st.st_size;) {
		static uint8_t buffer[1 << 20];
		ssize_t got = pread(from, buffer, sizeof buffer, at);
		if (got <= 0 || disk_write_at(to, buffer, (uint64_t)got, (uint64_t)at) != 0)
			result = -1;
		at += got;
	}
	int error = errno;
	if (to >= 0)
		close(to);
	if (result == 0 && renameat(s->journalfd, "incoming", s->journalfd, name) == 0)
		return 0;
	error = result == 0 ? errno : error;
	unlinkat(s->journalfd, "incoming", 0);
	return epoch_fail(e, error == ENOSPC || error == 0 ? "space" : "io", error, "the epoch cannot be copied into the journal");
}

static int move_in(struct store *s, int fd, const char *path, uint64_t number, struct epoch_error *e)
{
	char name[17];
	journal_name(number, name);
	if (renameat(AT_FDCWD, path, s->journalfd, name) == 0)
		return 0;
	if (errno != EXDEV)
		return epoch_fail(e, errno == ENOSPC ? "space" : "io", errno, "the epoch cannot be moved into the journal");
	if (copy_in(s, fd, name, e) != 0)
		return -1;
	if (unlink(path) != 0)
		fprintf(stderr, "ftstore: %s stays: %s\n", path, strerror(errno));
	return 0;
}

static int fault(const char *point, struct epoch_error *e)
{
	return ft_fault(point) == 0 ? 0 : epoch_fail(e, "io", errno, "a fault was injected at %s", point);
}

static int verify(struct store *s, int fd, uint64_t epoch, struct journal_entry *entry, struct tables *after, struct epoch_error *e)
{
	*after = (struct tables){0};
	if (fault("store.verify", e) != 0 || epoch_reader_open(fd, s->options.blob_bytes_max, &entry->reader, e) != 0)
		return -1;
	uint64_t said = epoch_reader_header(entry->reader)->epoch;
	if (said != epoch)
		return epoch_fail(e, "order", 0, "it is epoch %llu, not %llu", (unsigned long long)said, (unsigned long long)epoch);
	return check_blob(s, entry, &s->committed, after, e);
}

static int wait_for_room(struct store *s, uint64_t bytes, struct epoch_error *e)
{
	uint64_t bytes_max = s->options.journal_bytes_max > bytes ? s->options.journal_bytes_max - bytes : 0;
	if (applier_wait(s, STORE_JOURNAL_MAX - 1, bytes_max, STORE_COMMIT_WAIT_MS) == 0)
		return 0;
	pthread_mutex_lock(&s->lock);
	uint32_t waiting = s->journal_count;
	bool no_root = s->root_pid == 0;
	pthread_mutex_unlock(&s->lock);
	return epoch_fail(e, "space", ENOSPC, "%u epochs wait to be applied%s", waiting, no_root ? ": no container is attached" : "");
}

static int commit_opened(struct store *s, int fd, uint64_t epoch, const char *path, struct commit_result *out,
                         struct epoch_error *e)
{
	uint64_t from = store_now_us();
	struct journal_entry entry = {.number = s->next_number};
	struct tables after;
	int result = verify(s, fd, epoch, &entry, &after, e);
	out->verify_us = store_now_us() - from;
	if (result == 0 && (wait_for_room(s, entry.bytes, e) != 0 || check_room(s, fd, &entry, e) != 0 || fault("store.commit", e) != 0 ||
	                    move_in(s, fd, path, entry.number, e) != 0))
		result = -1;
	if (result != 0) {
		free_tables(&after);
		epoch_reader_close(entry.reader);
		return -1;
	}
	/* It is committed: from here on nothing may fail. A crash here must find it again. */
	(void)ft_fault("store.commit");
	out->bytes = entry.bytes;
	out->commit_us = store_now_us() - from - out->verify_us;
	take(s, &entry, &after);
	return 0;
}

int store_commit(struct store *s, uint64_t epoch, const char *path, struct commit_result *out, struct epoch_error *e)
{
	memset(out, 0, sizeof *out);
	store_unprepare(s);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return epoch_fail(e, "io", errno, "%.150s cannot be opened", path);
	int result = commit_opened(s, fd, epoch, path, out, e);
	close(fd);
	return result;
}
