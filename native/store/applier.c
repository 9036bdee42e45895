/* The thread that applies what is committed. It may be killed with the process at any instant: see `redo`. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fault/fault.h"
#include "files/apply_entry.h"
#include "images/apply.h"
#include "pages/files.h"
#include "store/store.h"

void (*store_on_trouble)(const struct epoch_error *trouble);

uint64_t store_now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void deadline_in(struct timespec *at, int ms)
{
	clock_gettime(CLOCK_MONOTONIC, at);
	at->tv_sec += ms / 1000;
	at->tv_nsec += (long)(ms % 1000) * 1000000;
	if (at->tv_nsec >= 1000000000) {
		at->tv_sec++;
		at->tv_nsec -= 1000000000;
	}
}

int remove_tree(int dirfd, const char *name)
{
	uint64_t skipped = 0;
	return entry_remove(dirfd, name, &skipped);
}

int container_open(uint64_t pid, uint64_t start)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%llu/root", (unsigned long long)pid);
	int fd = pid == 0 || process_start(pid) != start ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Asked again, because the number may have been given to another process in between. */
	if (fd >= 0 && process_start(pid) == start)
		return fd;
	if (fd >= 0)
		close(fd);
	errno = ESRCH;
	return -1;
}

static int fault(const char *point, struct epoch_error *e)
{
	return ft_fault(point) == 0 ? 0 : epoch_fail(e, "io", errno, "a fault was injected at %s", point);
}

static int apply_full(struct store *s, const struct epoch_section *section, struct epoch_error *e)
{
	if (remove_tree(s->dirfd, "images.new") != 0 || mkdirat(s->dirfd, "images.new", 0700) != 0)
		return epoch_fail(e, errno == ENOSPC ? "space" : "io", errno, "images.new cannot be made");
	int fd = openat(s->dirfd, "images.new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result = fd < 0 ? epoch_fail(e, "io", errno, "images.new cannot be opened") : images_apply(fd, section, 0, e);
	if (fd >= 0)
		close(fd);
	if (result == 0 && renameat2(s->dirfd, "images.new", s->dirfd, "images", RENAME_EXCHANGE) != 0)
		result = epoch_fail(e, "io", errno, "the images cannot be exchanged");
	return result;
}

static int apply_images(struct store *s, const struct journal_entry *entry, struct epoch_error *e)
{
	const struct epoch_header *h = epoch_reader_header(entry->reader);
	if (h->flags & EPOCH_FILES_ONLY)
		return 0;
	const struct epoch_section *section = epoch_reader_section(entry->reader, h->section_count - 1);
	if (h->flags & EPOCH_FULL)
		return apply_full(s, section, e);
	int fd = openat(s->dirfd, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return epoch_fail(e, "io", errno, "the images cannot be opened");
	int result = images_apply(fd, section, entry->redo, e);
	close(fd);
	return result;
}

static int apply_pages(struct store *s, const struct journal_entry *entry, struct epoch_error *e)
{
	const struct epoch_section *section = store_pages_section(entry->reader);
	if (section == NULL)
		return 0;
	int fd = openat(s->dirfd, "pages", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return epoch_fail(e, "io", errno, "the pages cannot be opened");
	int result = pages_apply(fd, section, epoch_reader_header(entry->reader)->flags & EPOCH_FULL, e);
	close(fd);
	return result;
}

static int apply_section(struct store *s, int container, const struct epoch_section *section, struct epoch_error *e)
{
	struct files_section *files = malloc(sizeof *files);
	struct files_apply_stats stats = {0};
	struct tracked **tracked = NULL;
	int result = files == NULL ? epoch_fail(e, "space", ENOMEM, "no memory") : files_check(section, files, e);
	for (size_t i = 0; result == 0 && i < s->roots.count; i++)
		if (strcmp(s->roots.name[i], files->name) == 0)
			tracked = &s->roots.tracked[i];
	if (result == 0 && tracked == NULL)
		result = epoch_fail(e, "corrupt", 0, "a root that is not known here");
	if (result == 0 && *tracked == NULL && files->kind == FILES_UPPER) {
		char name[32];
		snprintf(name, sizeof name, "paths.%zu", (size_t)(tracked - s->roots.tracked));
		*tracked = tracked_open(s->dirfd, name, e);
		result = *tracked == NULL ? -1 : 0;
	}
	if (result == 0)
		result = files_apply(container, files, files->kind == FILES_UPPER ? *tracked : NULL, &stats, e);
	free(files);
	pthread_mutex_lock(&s->lock);
	s->skipped += stats.skipped;
	s->applied_files += stats.entries;
	pthread_mutex_unlock(&s->lock);
	return result;
}

static int apply_files(struct store *s, const struct journal_entry *entry, uint64_t pid, uint64_t start, struct epoch_error *e)
{
	if (!entry->has_files)
		return 0;
	int container = container_open(pid, start), result = 0;
	if (container < 0)
		return epoch_fail(e, "root", errno, "the standby container's process %llu is gone", (unsigned long long)pid);
	const struct epoch_section *section;
	for (uint32_t i = 0; result == 0 && (section = epoch_reader_section(entry->reader, i)) != NULL; i++)
		if (section->kind == EPOCH_SECTION_FILES)
			result = apply_section(s, container, section, e);
	close(container);
	return result;
}

static void journal_name(uint64_t number, char out[17])
{
	snprintf(out, 17, "%016llx", (unsigned long long)number);
}

/* One blob; the state file's rename is the instant at which it counts as applied. */
static int apply_entry(struct store *s, const struct journal_entry *entry, uint64_t pid, uint64_t start,
                       struct epoch_error *e)
{
	char name[17];
	struct store_state after = s->state;
	if (fault("store.apply", e) != 0 || apply_pages(s, entry, e) != 0 || fault("store.apply", e) != 0 ||
	    apply_images(s, entry, e) != 0 || fault("store.apply", e) != 0 || apply_files(s, entry, pid, start, e) != 0 || fault("store.apply", e) != 0)
		return -1;
	state_advance(&after, epoch_reader_header(entry->reader));
	after.applied = entry->number;
	if (entry->has_files) {
		after.root_pid = pid;
		after.root_start = start;
	}
	if (state_write(s->dirfd, s->options.pair, &after, e) != 0)
		return -1;
	s->state = after;
	journal_name(entry->number, name);
	if (unlinkat(s->journalfd, name, 0) != 0 || remove_tree(s->dirfd, "images.new") != 0)
		fprintf(stderr, "ftstore: leftovers of an applied epoch stay: %s\n", strerror(errno));
	return 0;
}

static void set_trouble(struct store *s, const struct epoch_error *trouble)
{
	if (strcmp(s->trouble.code, trouble->code) != 0 && store_on_trouble != NULL)
		store_on_trouble(trouble);
	s->trouble = *trouble;
}

/* Under the lock. */
static void pop_entry(struct store *s)
{
	struct journal_entry *entry = &s->journal[s->journal_first];
	s->journal_bytes -= entry->bytes;
	s->image_needs -= entry->image_needs;
	s->file_needs -= entry->file_needs;
	epoch_reader_close(entry->reader);
	memset(entry, 0, sizeof *entry);
	s->journal_first = (s->journal_first + 1) % STORE_JOURNAL_MAX;
	s->journal_count--;
}

/*
 * Files that were sent ahead must not overtake the memory that is committed: they wait until the full epoch that they belong to
 * is committed, too. Under the lock.
 */
static bool is_staged(const struct store *s)
{
	for (uint32_t i = 0; s->applied_epoch != 0 && i < s->journal_count; i++) {
		const struct journal_entry *entry = &s->journal[(s->journal_first + i) % STORE_JOURNAL_MAX];
		if (!(epoch_reader_header(entry->reader)->flags & EPOCH_FILES_ONLY))
			return false;
	}
	return s->applied_epoch != 0;
}

static bool is_idle(const struct store *s)
{
	const struct journal_entry *entry = &s->journal[s->journal_first];
	return s->journal_count == 0 || (entry->has_files && s->root_pid == 0) || is_staged(s);
}

static void *apply_all(void *context)
{
	struct store *s = context;
	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		struct journal_entry *entry = &s->journal[s->journal_first];
		if (is_idle(s)) {
			pthread_cond_wait(&s->moved, &s->lock);
			continue;
		}
		uint64_t pid = s->root_pid, start = s->root_start;
		struct epoch_error e = {.code = ""};
		s->busy = true;
		pthread_mutex_unlock(&s->lock);
		int result = apply_entry(s, entry, pid, start, &e);
		pthread_mutex_lock(&s->lock);
		s->busy = false;
		set_trouble(s, &e);
		if (result == 0) {
			s->applied_epoch = s->state.epoch;
			pop_entry(s);
		} else {
			struct timespec retry;
			entry->redo = true;
			deadline_in(&retry, STORE_RETRY_MS);
			if (!s->stop)
				pthread_cond_timedwait(&s->moved, &s->lock, &retry);
		}
		pthread_cond_broadcast(&s->moved);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int applier_start(struct store *s, struct epoch_error *e)
{
	assert(!s->running);
	s->stop = false;
	s->applied_epoch = s->state.epoch;
	int error = pthread_create(&s->applier, NULL, apply_all, s);
	if (error != 0)
		return epoch_fail(e, "io", error, "the applier cannot be started");
	s->running = true;
	return 0;
}

void applier_stop(struct store *s)
{
	if (!s->running)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->moved);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->applier, NULL);
	s->running = false;
}

int applier_wait(struct store *s, uint32_t blobs_max, uint64_t bytes_max, int timeout_ms)
{
	struct timespec deadline;
	int result = 0;
	deadline_in(&deadline, timeout_ms);
	pthread_mutex_lock(&s->lock);
	while (result == 0 && (s->journal_count > blobs_max || s->journal_bytes > bytes_max)) {
		if (s->trouble.code[0] != 0 || (is_idle(s) && !s->busy))
			result = -1;
		else if (pthread_cond_timedwait(&s->moved, &s->lock, &deadline) == ETIMEDOUT)
			result = -1;
	}
	pthread_mutex_unlock(&s->lock);
	return result;
}

int applier_finish(struct store *s, int timeout_ms)
{
	struct timespec deadline;
	int result = 0;
	deadline_in(&deadline, timeout_ms);
	pthread_mutex_lock(&s->lock);
	while (result == 0 && s->journal_count > 0 && !(is_staged(s) && !s->busy)) {
		if (s->trouble.code[0] != 0 || (is_idle(s) && !s->busy))
			result = -1;
		else if (pthread_cond_timedwait(&s->moved, &s->lock, &deadline) == ETIMEDOUT)
			result = -1;
	}
	pthread_mutex_unlock(&s->lock);
	return result;
}
