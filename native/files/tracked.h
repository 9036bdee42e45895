/*
 * The paths that this standby was told to make in a root, so that a new chain of files can take away those that it does not
 * name, without touching what came with the container's image. Kept in an append-only log on the store's tmpfs.
 *
 * Invariant: whatever an operation made in the root is in the set (more may be: what is not there needs no taking away).
 */
#ifndef FT_FILES_TRACKED_H
#define FT_FILES_TRACKED_H
#include <stddef.h>
#include <stdint.h>

#include "epoch/reader.h"
#include "files/parse.h"

struct tracked;

/* Opens or makes the log `name` in a directory. NULL and *e. */
struct tracked *tracked_open(int dirfd, const char *name, struct epoch_error *e);
void tracked_close(struct tracked *t); /* NULL is fine */
size_t tracked_count(const struct tracked *t);

/* Before a section is applied: adds what it makes. After: takes out what it removed, or everything it did not name (reset). */
int tracked_before(struct tracked *t, const struct files_section *section, struct epoch_error *e);
int tracked_after(struct tracked *t, const struct files_section *section, struct epoch_error *e);

/* A set of paths on its own: the ones that a section names. */
struct path_set {
	char **slot;
	size_t slots, count;
};
int path_set_add(struct path_set *set, const char *path); /* 1 added, 0 known, -1 no memory */
int path_set_has(const struct path_set *set, const char *path);
int path_set_remove(struct path_set *set, const char *path); /* 1 removed, 0 unknown */
void path_set_free(struct path_set *set);
/* The paths that exist after the section, as far as it names them. */
int path_set_of_section(struct path_set *set, const struct files_section *section);
/* Calls `visit` for every path that `t` holds and `named` does not; stops at the first that is not 0. */
int tracked_unnamed(const struct tracked *t, const struct path_set *named, int (*visit)(void *, const char *), void *context);
#endif
