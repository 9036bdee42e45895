/*
 * What the kernel told since the last scan: names in directories, and inodes. A set, bounded; internal to native/files.
 *
 * Invariant: `slot` holds each (root, inode, name) at most once, and is at most half full.
 */
#ifndef FT_FILES_TOLD_H
#define FT_FILES_TOLD_H
#include <stddef.h>
#include <stdint.h>

#define TOLD_MAX 65536u

struct told {
	uint32_t root;
	uint64_t ino;
	char name[]; /* "": the inode itself; else what is called so in that directory */
};
struct told_set {
	struct told **slot;
	size_t slots, count;
};

/* -1 with errno E2BIG when there are too many, or ENOMEM. */
int told_add(struct told_set *set, uint32_t root, uint64_t ino, const char *name);
void told_clear(struct told_set *set);
void told_free(struct told_set *set);
#endif
