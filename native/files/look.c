/*
 * The first half of a scan that looks only at what the kernel told of, and at the files that the tasks could be writing to.
 *
 * Directories come in the order of their depth: when one is looked into, all that was told of those above it has been looked at, so
 * its path in the index must lead to it. Where it does not, something was not told, and all is walked.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files/walk.h"

/* One entry of one directory to look at. */
struct ask {
	struct node *dir;
	const char *name;
	uint32_t depth;
};
struct asks {
	struct ask *ask;
	size_t count, room;
};

static int ask_for(struct asks *asks, struct node *dir, const char *name)
{
	if (asks->count == asks->room) {
		size_t room = asks->room ? asks->room * 2 : 256;
		struct ask *grown = realloc(asks->ask, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		asks->ask = grown;
		asks->room = room;
	}
	uint32_t depth = 0;
	for (const struct node *above = dir->parent; above != NULL; above = above->parent)
		depth++;
	asks->ask[asks->count++] = (struct ask){dir, name, depth};
	return 0;
}

/* All names of an inode; not of a whiteout, whose metadata nobody sees and which all whiteouts of an overlay share. */
static int ask_for_inode(struct asks *asks, const struct root *root, const struct inode *inode)
{
	for (; inode != NULL; inode = inode_find_next(inode)) {
		if (is_whiteout(root, inode->meta.mode, inode->meta.rdev))
			continue;
		for (const struct node *node = inode->nodes; node != NULL; node = node->same_inode)
			if (node->parent != NULL && ask_for(asks, node->parent, node->name) != 0)
				return -1;
	}
	return 0;
}

static int ask_for_name(struct asks *asks, const struct inode *inode, const char *name)
{
	for (; inode != NULL; inode = inode_find_next(inode))
		if (S_ISDIR(inode->meta.mode) && inode->nodes != NULL)
			return ask_for(asks, inode->nodes, name);
	return 1;
}

static int ask_for_told(struct asks *asks, const struct root *root, const struct told *told)
{
	const struct inode *inode = inode_find(root, root->dev, told->ino);
	if (inode == NULL)
		return 1;
	return told->name[0] == 0 ? ask_for_inode(asks, root, inode) : ask_for_name(asks, inode, told->name);
}

static int ask_for_used(struct asks *asks, const struct files_index *index, const struct root *root)
{
	for (size_t i = 0; i < index->used_count; i++) {
		const struct used *used = &index->used[i];
		if ((used->root == NULL || used->root == root) &&
		    ask_for_inode(asks, root, inode_find(root, root->dev, used->ino)) != 0)
			return -1;
	}
	return 0;
}

/*
 * The time of a merged directory moves by a call that changes nothing and so tells nothing: when what an overlay renames out of it has
 * to leave a whiteout, and the other directory is not empty, ext4 puts the whiteout there and takes it back.
 */
static int ask_for_merged(struct asks *asks, const struct root *root)
{
	for (const struct inode *inode = root->merged; inode != NULL; inode = inode->next_merged)
		for (const struct node *node = inode->nodes; node != NULL; node = node->same_inode)
			if (node->parent != NULL && ask_for(asks, node->parent, node->name) != 0)
				return -1;
	return 0;
}

static int by_depth(const void *a, const void *b)
{
	const struct ask *x = a, *y = b;
	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	if (x->dir != y->dir)
		return (uintptr_t)x->dir < (uintptr_t)y->dir ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* The entry itself has changed at most: it is the directory that it was. */
static int look_at_directory(struct walk *walk, struct node *node, const struct stat *st)
{
	if (node->seen == walk->index->scan)
		return 0;
	node->seen = walk->index->scan;
	node->dev = st->st_dev;
	node->ino = st->st_ino;
	node->mode = st->st_mode;
	walk->index->stats->entries++;
	return walk_is_unchanged(walk->index, walk->root, node, st) ? 0 : list_add(&walk->root->changed, node);
}

/* By its handle: a number is used again at once, and of a directory that has it since then nothing was understood. */
static int is_same_directory(const struct root *root, const struct node *node, const struct stat *st, int fd, const char *name)
{
	const struct inode *inode = node->inode;
	if (inode == NULL || !S_ISDIR(inode->meta.mode) || !S_ISDIR(st->st_mode) || inode->meta.ino != st->st_ino ||
	    inode->meta.dev != st->st_dev)
		return 0;
	struct file_id id = file_id_at(root, fd, name);
	return inode_is(inode, &id);
}

static int look_at(struct walk *walk, int dirfd, struct node *dir, const char *name)
{
	struct files_index *index = walk->index;
	struct stat st;
	node_sort(dir);
	struct node *node = node_child(dir, name);
	if (node != NULL && node->seen == index->scan)
		return 0;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno != ENOENT)
			return walk_fail(walk, "cannot stat an entry");
		return node == NULL ? 0 : node_drop(index, walk->root, node);
	}
	if (node != NULL && is_same_directory(walk->root, node, &st, dirfd, name))
		return look_at_directory(walk, node, &st);
	if (node == NULL && ((node = node_new(dir, name)) == NULL || node_insert(index, dir, node) != 0))
		return walk_fail(walk, "no memory for an entry");
	if (walk_visit(walk, dirfd, node) != 0)
		return -1;
	return node->seen == index->scan ? 0 : node_drop(index, walk->root, node);
}

/* Opens a directory of the index; -1 if it is not where the index has it. */
static int open_known(struct walk *walk, const struct node *dir, struct stat *st)
{
	if (node_path(dir, walk->index->path) != 0)
		return -1;
	int fd = open_below(walk->root, walk->index->path, O_RDONLY | O_DIRECTORY | O_NOATIME);
	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && is_same_directory(walk->root, dir, st, fd, ""))
		return fd;
	close(fd);
	return -1;
}

static int look_into(struct walk *walk, const struct ask *ask, size_t count)
{
	struct node *dir = ask->dir;
	struct stat st;
	if (node_is_dropped(walk->index, dir) || dir->walked_scan == walk->index->scan)
		return 0;
	/* Something else has its name now. Where the directory itself went, it came by a name that was told, and is read whole. */
	if (dir->seen == walk->index->scan && (!S_ISDIR(dir->mode) || dir->ino != dir->inode->meta.ino))
		return 0;
	int fd = open_known(walk, dir, &st);
	if (fd < 0)
		return 1;
	walk->path_bytes = strlen(walk->index->path);
	walk->depth = ask->depth;
	int result = look_at_directory(walk, dir, &st);
	for (size_t i = 0; i < count && result == 0; i++)
		result = look_at(walk, fd, dir, ask[i].name);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static int look_all(struct files_index *index, struct root *root, struct asks *asks)
{
	struct walk walk = {.index = index, .root = root};
	int result = walk_begin_told(index, root);
	if (asks->count > 1)
		qsort(asks->ask, asks->count, sizeof *asks->ask, by_depth);
	for (size_t from = 0, to; from < asks->count && result == 0; from = to) {
		for (to = from + 1; to < asks->count && asks->ask[to].dir == asks->ask[from].dir; to++)
			;
		result = look_into(&walk, &asks->ask[from], to - from);
	}
	return result;
}

int walk_told(struct files_index *index, struct root *root, struct told *const *told, size_t count)
{
	struct asks asks = {0};
	uint32_t number = (uint32_t)(root - index->root);
	int result = ask_for_used(&asks, index, root);
	if (result == 0)
		result = ask_for_merged(&asks, root);
	for (size_t i = 0; i < count && result == 0; i++)
		if (told[i] != NULL && told[i]->root == number)
			result = ask_for_told(&asks, root, told[i]);
	if (result == 0)
		result = look_all(index, root, &asks);
	int error = errno;
	free(asks.ask);
	errno = error;
	return result;
}
