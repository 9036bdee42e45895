/* What ends or changes a store's work: another container, a takeover, a discard. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/disk.h"
#include "pages/files.h"
#include "store/store.h"

/* With the applier stopped. Keeps the generation (a floor that only rises), the place in the journal, and paths.K. */
static int forget(struct store *s, int paths_too, struct epoch_error *e)
{
	store_unprepare(s);
	struct store_state fresh = {.generation = s->committed.generation, .applied = s->next_number - 1};
	fresh.root_pid = paths_too ? 0 : s->state.root_pid;
	fresh.root_start = paths_too ? 0 : s->state.root_start;
	/* The state first: blobs up to `applied` do not count from here on, whatever happens next. */
	if (state_write(s->dirfd, s->options.pair, &fresh, e) != 0)
		return -1;
	s->state = s->committed = fresh;
	for (; s->journal_count > 0; s->journal_count--) {
		char name[17];
		struct journal_entry *entry = &s->journal[s->journal_first];
		snprintf(name, sizeof name, "%016llx", (unsigned long long)entry->number);
		unlinkat(s->journalfd, name, 0);
		epoch_reader_close(entry->reader);
		s->journal_first = (s->journal_first + 1) % STORE_JOURNAL_MAX;
	}
	s->journal_bytes = s->image_needs = s->file_needs = 0;
	memset(&s->trouble, 0, sizeof s->trouble);
	images_table_free(s->table);
	s->table = images_table_empty();
	pages_table_free(s->pages);
	s->pages = pages_table_new(false);
	if (s->table == NULL || s->pages == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory");
	for (size_t i = 0; paths_too && i < s->roots.count; i++) {
		char name[32];
		tracked_close(s->roots.tracked[i]);
		s->roots.tracked[i] = NULL;
		snprintf(name, sizeof name, "paths.%zu", i);
		unlinkat(s->dirfd, name, 0);
	}
	if (remove_tree(s->dirfd, "images") != 0 || remove_tree(s->dirfd, "images.new") != 0 ||
	    mkdirat(s->dirfd, "images", 0700) != 0 || remove_tree(s->dirfd, "pages") != 0 || mkdirat(s->dirfd, "pages", 0700) != 0)
		return epoch_fail(e, "io", errno, "the images cannot be removed");
	return 0;
}

int store_attach(struct store *s, uint64_t root_pid, struct epoch_error *e)
{
	uint64_t start = process_start(root_pid);
	int result = 0;
	if (root_pid != 0 && start == 0)
		return epoch_fail(e, "root", ESRCH, "there is no process %llu", (unsigned long long)root_pid);
	store_unprepare(s);
	applier_stop(s);
	/* Files that an earlier container was given are not in this one. */
	int another = root_pid != 0 && s->state.root_pid != 0 && (root_pid != s->state.root_pid || start != s->state.root_start);
	if (another) {
		s->state.root_pid = s->state.root_start = 0;
		result = forget(s, 0, e) == 0 ? 1 : -1;
	}
	s->root_pid = root_pid;
	s->root_start = start;
	memset(&s->trouble, 0, sizeof s->trouble);
	struct epoch_error ignored;
	if (applier_start(s, result < 0 ? &ignored : e) != 0)
		result = -1;
	return result;
}

int store_discard(struct store *s, struct epoch_error *e)
{
	applier_stop(s);
	int result = forget(s, 1, e);
	struct epoch_error ignored;
	if (applier_start(s, result < 0 ? &ignored : e) != 0)
		result = -1;
	return result;
}

static int copy_image(int from_dir, const char *name, int to_dir)
{
	int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int to = from < 0 ? -1 : openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t got = to < 0 ? -1 : 1;
	for (uint64_t at = 0; got > 0; at += (uint64_t)got) {
		static uint8_t buffer[1 << 20];
		got = pread(from, buffer, sizeof buffer, (off_t)at);
		if (got > 0 && disk_write_at(to, buffer, (uint64_t)got, at) != 0)
			got = -1;
	}
	int error = errno;
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	errno = error;
	return got < 0 ? -1 : 0;
}

static int give_images(struct store *s, const char *path, struct epoch_error *e)
{
	int from = openat(s->dirfd, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		close(from);
		return epoch_fail(e, errno == ENOSPC ? "space" : "io", errno, "%.150s cannot be made", path);
	}
	int to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || to < 0)
		result = epoch_fail(e, "io", errno, "%.150s cannot be opened", path);
	for (size_t i = 0; result == 0 && i < s->table->count; i++) {
		const char *name = s->table->entry[i].name;
		unlinkat(to, name, 0);
		if (linkat(from, name, to, name, 0) != 0 && (errno != EXDEV || copy_image(from, name, to) != 0))
			result = epoch_fail(e, errno == ENOSPC ? "space" : "io", errno, "image %.100s cannot be given away", name);
	}
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return result;
}

/* The memory, as images; every page that is copied is checked on the way. */
static int give_pages(struct store *s, const char *path, uint64_t lazy_from, uint64_t *lazy_pages, struct epoch_error *e)
{
	int from = openat(s->dirfd, "pages", O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result = from < 0 || to < 0 ? epoch_fail(e, "io", errno, "the pages cannot be given away") : pages_compose(from, s->pages, to, lazy_from, lazy_pages, e);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return result;
}

static int same_table(const struct images_table *a, const struct images_table *b)
{
	if (a->count != b->count)
		return 0;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->entry[i].name, b->entry[i].name) != 0 || a->entry[i].size != b->entry[i].size ||
		    memcmp(a->entry[i].crc, b->entry[i].crc, a->entry[i].blocks * sizeof *a->entry[i].crc) != 0)
			return 0;
	return 1;
}

/* Every byte of every image against what the acknowledged epochs say. */
static int check_images(struct store *s, struct epoch_error *e)
{
	int fd = openat(s->dirfd, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct images_table *found = fd < 0 ? NULL : images_table_read(fd, e);
	if (fd < 0)
		return epoch_fail(e, "io", errno, "the images cannot be opened");
	close(fd);
	if (found == NULL)
		return -1;
	int same = same_table(found, s->table);
	images_table_free(found);
	return same ? 0 : epoch_fail(e, "corrupt", 0, "the images are not what was committed");
}

static int not_applied(struct store *s, struct epoch_error *e)
{
	pthread_mutex_lock(&s->lock);
	if (s->trouble.code[0] != 0)
		*e = s->trouble;
	else if (s->root_pid == 0)
		epoch_fail(e, "root", 0, "no container is attached, and its files wait to be applied");
	else
		epoch_fail(e, "timeout", ETIMEDOUT, "%u epochs are not applied yet", s->journal_count);
	pthread_mutex_unlock(&s->lock);
	return -1;
}

/* Files sent ahead for an epoch that never came. The last first, so that a kill leaves no gap. */
static int drop_staged(struct store *s, struct epoch_error *e)
{
	struct epoch_error restart;
	int result = 0;
	applier_stop(s);
	while (s->journal_count > 0 && result == 0) {
		char name[17];
		struct journal_entry *entry = &s->journal[(s->journal_first + s->journal_count - 1) % STORE_JOURNAL_MAX];
		snprintf(name, sizeof name, "%016llx", (unsigned long long)entry->number);
		if (unlinkat(s->journalfd, name, 0) != 0 && errno != ENOENT) {
			result = epoch_fail(e, "io", errno, "an epoch cannot be removed from the journal");
			break;
		}
		s->journal_bytes -= entry->bytes;
		s->image_needs -= entry->image_needs;
		s->file_needs -= entry->file_needs;
		s->next_number = entry->number;
		epoch_reader_close(entry->reader);
		s->journal_count--;
	}
	if (result == 0) {
		if (s->state.generation < s->committed.generation)
			s->state.generation = s->committed.generation;
		s->committed = s->state;
	}
	return applier_start(s, result == 0 ? e : &restart) != 0 ? -1 : result;
}

/* Everything of the committed epoch, checked on the way. */
static int give_all(struct store *s, const char *images, uint64_t lazy_from, struct materialized *out, struct epoch_error *e)
{
	return check_images(s, e) != 0 || give_images(s, images, e) != 0 || give_pages(s, images, lazy_from, &out->lazy_pages, e) != 0 ? -1 : 0;
}

bool store_is_prepared(const struct store *s, const char *images, uint64_t lazy_from)
{
	return s->prepared != NULL && strcmp(s->prepared, images) == 0 && s->prepared_lazy_from == lazy_from;
}

void store_unprepare(struct store *s)
{
	free(s->prepared);
	s->prepared = NULL;
}

static uint64_t bytes_to_copy(const struct store *s, uint64_t lazy_from)
{
	uint64_t bytes = pages_table_pages(s->pages) * PAGE_BYTES;
	return bytes >= lazy_from ? 0 : bytes;
}

int store_prepare(struct store *s, const char *images, uint64_t lazy_from, uint64_t copy_bytes_max, int timeout_ms, struct epoch_error *e)
{
	store_unprepare(s);
	if (s->committed.epoch == 0)
		return epoch_fail(e, "order", 0, "no epoch is committed");
	if (bytes_to_copy(s, lazy_from) > copy_bytes_max)
		return epoch_fail(e, "order", 0, "too much memory to be copied for nothing");
	if (applier_finish(s, timeout_ms) != 0 || s->journal_count > 0)
		return not_applied(s, e);
	/* The journal is empty and only this thread fills it, as in store_materialize(). */
	if (give_all(s, images, lazy_from, &s->prepared_as, e) != 0)
		return -1;
	s->prepared = strdup(images);
	s->prepared_lazy_from = lazy_from;
	return s->prepared != NULL ? 0 : epoch_fail(e, "space", ENOMEM, "no memory");
}

int store_materialize(struct store *s, const char *images, uint64_t lazy_from, int timeout_ms, struct materialized *out, struct epoch_error *e)
{
	if (s->committed.epoch == 0)
		return epoch_fail(e, "order", 0, "no epoch is committed");
	if (applier_finish(s, timeout_ms) != 0)
		return not_applied(s, e);
	if (s->journal_count > 0 && drop_staged(s, e) != 0)
		return -1;
	/* The journal is empty and only this thread fills it: what is the applier's is ours until the next commit. */
	if (store_is_prepared(s, images, lazy_from))
		*out = s->prepared_as;
	else if (give_all(s, images, lazy_from, out, e) != 0)
		return -1;
	store_unprepare(s); /* it is used, and changed by the restore */
	/* The application runs on from here, in these files: nothing that comes later can be built upon them. */
	struct store_state after = s->committed;
	after.applied = s->state.applied;
	after.root_pid = s->state.root_pid;
	after.root_start = s->state.root_start;
	after.need_images = after.need_files = 1;
	if (state_write(s->dirfd, s->options.pair, &after, e) != 0)
		return -1;
	s->state = s->committed = after;
	out->files = s->applied_files;
	out->image_bytes = s->table->bytes + pages_table_pages(s->pages) * PAGE_BYTES;
	return 0;
}
