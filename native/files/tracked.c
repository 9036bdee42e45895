#include "files/tracked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_SLACK_BYTES (1u << 20) /* beyond four times what is live, the log is written anew */

struct tracked {
	struct path_set set;
	int dirfd, fd;
	uint64_t log_bytes, live_bytes;
	char name[64];
};

/* ---- a set of paths: open addressing, FNV-1a, at most half full ---- */

static uint64_t hash_of(const char *path)
{
	uint64_t hash = 0xcbf29ce484222325ull;
	for (; *path != 0; path++)
		hash = (hash ^ (uint8_t)*path) * 0x100000001b3ull;
	return hash ^ (hash >> 29);
}

static size_t slot_for(const struct path_set *set, const char *path)
{
	size_t at = hash_of(path) & (set->slots - 1);
	while (set->slot[at] != NULL && strcmp(set->slot[at], path) != 0)
		at = (at + 1) & (set->slots - 1);
	return at;
}

static int set_grow(struct path_set *set)
{
	struct path_set grown = {.slots = set->slots ? set->slots * 2 : 256, .count = set->count};
	grown.slot = calloc(grown.slots, sizeof *grown.slot);
	if (grown.slot == NULL)
		return -1;
	for (size_t i = 0; i < set->slots; i++)
		if (set->slot[i] != NULL)
			grown.slot[slot_for(&grown, set->slot[i])] = set->slot[i];
	free(set->slot);
	*set = grown;
	return 0;
}

int path_set_add(struct path_set *set, const char *path)
{
	if (set->count * 2 >= set->slots && set_grow(set) != 0)
		return -1;
	size_t at = slot_for(set, path);
	if (set->slot[at] != NULL)
		return 0;
	if ((set->slot[at] = strdup(path)) == NULL)
		return -1;
	set->count++;
	return 1;
}

int path_set_has(const struct path_set *set, const char *path)
{
	return set->slots > 0 && set->slot[slot_for(set, path)] != NULL;
}

int path_set_remove(struct path_set *set, const char *path)
{
	if (!path_set_has(set, path))
		return 0;
	size_t hole = slot_for(set, path);
	free(set->slot[hole]);
	set->slot[hole] = NULL;
	set->count--;
	/* Close the gap, so that no search ends too early. */
	for (size_t at = (hole + 1) & (set->slots - 1); set->slot[at] != NULL; at = (at + 1) & (set->slots - 1)) {
		char *moved = set->slot[at];
		set->slot[at] = NULL;
		set->slot[slot_for(set, moved)] = moved;
	}
	return 1;
}

void path_set_free(struct path_set *set)
{
	for (size_t i = 0; i < set->slots; i++)
		free(set->slot[i]);
	free(set->slot);
	*set = (struct path_set){0};
}

/* The path that an operation makes, or NULL. */
static const char *made_by(const struct files_op *op)
{
	switch (op->type) {
	case FILES_DIR:
	case FILES_FILE:
	case FILES_SYMLINK:
	case FILES_NODE:
		return op->path;
	case FILES_RENAME:
	case FILES_LINK:
		return op->other;
	default:
		return NULL;
	}
}

int path_set_of_section(struct path_set *set, const struct files_section *section)
{
	static _Thread_local struct files_op op;
	struct epoch_cursor c = section->ops;
	while (files_op_next(&c, &op, NULL) == 1) {
		const char *path = made_by(&op);
		if (path != NULL && path_set_add(set, path) < 0)
			return -1;
	}
	return 0;
}

/* ---- the log: '+' or '-', path, NUL ---- */

static int trouble(const struct tracked *t, struct epoch_error *e)
{
	int space = errno == ENOSPC || errno == ENOMEM || errno == EDQUOT;
	return epoch_fail(e, space ? "space" : "io", errno, "cannot write the list of paths %s", t->name);
}

static int log_append(struct tracked *t, char sign, const char *path)
{
	char line[EPOCH_PATH_BYTES_MAX + 2];
	size_t bytes = strlen(path) + 1;
	line[0] = sign;
	memcpy(line + 1, path, bytes);
	if (write(t->fd, line, bytes + 1) != (ssize_t)bytes + 1) {
		int error = errno;
		if (ftruncate(t->fd, (off_t)t->log_bytes) != 0) /* no half line */
			error = errno;
		errno = error ? error : ENOSPC;
		return -1;
	}
	t->log_bytes += bytes + 1;
	t->live_bytes += sign == '+' ? bytes + 1 : 0;
	return 0;
}

static int track(struct tracked *t, const char *path)
{
	if (path_set_has(&t->set, path))
		return 0;
	return log_append(t, '+', path) != 0 || path_set_add(&t->set, path) < 0 ? -1 : 0;
}

static int untrack(struct tracked *t, const char *path)
{
	if (!path_set_has(&t->set, path))
		return 0;
	if (log_append(t, '-', path) != 0)
		return -1;
	path_set_remove(&t->set, path);
	t->live_bytes -= strlen(path) + 2;
	return 0;
}

/* Writes the log anew beside the old one and puts it in its place. */
static int compact(struct tracked *t)
{
	char aside[80];
	snprintf(aside, sizeof aside, "%s.new", t->name);
	FILE *file = NULL;
	int fd = openat(t->dirfd, aside, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600), copy;
	if (fd < 0 || (copy = dup(fd)) < 0 || (file = fdopen(copy, "a")) == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	uint64_t bytes = 0;
	for (size_t i = 0; i < t->set.slots; i++)
		if (t->set.slot[i] != NULL)
			bytes += (uint64_t)(fprintf(file, "+%s", t->set.slot[i]) + (fputc(0, file) == 0));
	int failed = ferror(file);
	failed |= fclose(file) != 0;
	if (failed || renameat(t->dirfd, aside, t->dirfd, t->name) != 0) {
		close(fd);
		return -1;
	}
	close(t->fd);
	t->fd = fd;
	t->log_bytes = t->live_bytes = bytes;
	return 0;
}

static int load(struct tracked *t)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t got;
	int copy = dup(t->fd), result = 0;
	FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
	if (file == NULL)
		return -1;
	while (result == 0 && (got = getdelim(&line, &room, 0, file)) > 0) {
		if (line[got - 1] != 0)
			break; /* the last line of a writer that was killed */
		t->log_bytes += (uint64_t)got;
		if (line[0] == '+') {
			int added = path_set_add(&t->set, line + 1);
			result = added < 0 ? -1 : 0;
			t->live_bytes += added == 1 ? (uint64_t)got : 0;
		} else if (path_set_remove(&t->set, line + 1)) {
			t->live_bytes -= (uint64_t)got;
		}
	}
	free(line);
	fclose(file);
	return result == 0 ? ftruncate(t->fd, (off_t)t->log_bytes) : -1;
}

struct tracked *tracked_open(int dirfd, const char *name, struct epoch_error *e)
{
	struct tracked *t = calloc(1, sizeof *t);
	if (t == NULL) {
		epoch_fail(e, "space", ENOMEM, "no memory for the list of paths");
		return NULL;
	}
	t->dirfd = dirfd;
	snprintf(t->name, sizeof t->name, "%s", name);
	t->fd = openat(dirfd, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (t->fd >= 0 && load(t) == 0)
		return t;
	trouble(t, e);
	tracked_close(t);
	return NULL;
}

void tracked_close(struct tracked *t)
{
	if (t == NULL)
		return;
	if (t->fd >= 0)
		close(t->fd);
	path_set_free(&t->set);
	free(t);
}

size_t tracked_count(const struct tracked *t)
{
	return t->set.count;
}

int tracked_before(struct tracked *t, const struct files_section *section, struct epoch_error *e)
{
	static _Thread_local struct files_op op;
	struct epoch_cursor c = section->ops;
	while (files_op_next(&c, &op, NULL) == 1) {
		const char *path = made_by(&op);
		if (path != NULL && track(t, path) != 0)
			return trouble(t, e);
	}
	return 0;
}

static int only_named(struct tracked *t, const struct files_section *section)
{
	struct path_set named = {0};
	if (path_set_of_section(&named, section) != 0) {
		path_set_free(&named);
		errno = ENOMEM;
		return -1;
	}
	path_set_free(&t->set);
	t->set = named;
	return compact(t);
}

int tracked_after(struct tracked *t, const struct files_section *section, struct epoch_error *e)
{
	static _Thread_local struct files_op op;
	struct epoch_cursor c = section->ops;
	if (section->reset)
		return only_named(t, section) == 0 ? 0 : trouble(t, e);
	while (files_op_next(&c, &op, NULL) == 1)
		if ((op.type == FILES_REMOVE || op.type == FILES_RENAME) && untrack(t, op.path) != 0)
			return trouble(t, e);
	if (t->log_bytes > 4 * t->live_bytes + LOG_SLACK_BYTES && compact(t) != 0)
		return trouble(t, e);
	return 0;
}

int tracked_unnamed(const struct tracked *t, const struct path_set *named, int (*visit)(void *, const char *), void *context)
{
	for (size_t i = 0; i < t->set.slots; i++)
		if (t->set.slot[i] != NULL && !path_set_has(named, t->set.slot[i])) {
			int result = visit(context, t->set.slot[i]);
			if (result != 0)
				return result;
		}
	return 0;
}
