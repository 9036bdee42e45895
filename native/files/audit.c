/*
 * Everything below a root against the index, for tests: whatever a scan has looked at, after it the index must say what is there.
 * It takes no one's word: every name, every metadata, every attribute and every block is read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "files/walk.h"

static int differs(const struct walk *walk, const char *what)
{
	errno = EUCLEAN;
	return walk_fail(walk, what);
}

static int audit_content(const struct walk *walk, const struct inode *inode, int fd)
{
	struct files_index *index = walk->index;
	for (uint64_t at = 0; at < inode->meta.size; at += HASH_BLOCK_BYTES) {
		uint64_t want = inode->meta.size - at < HASH_BLOCK_BYTES ? inode->meta.size - at : HASH_BLOCK_BYTES;
		if (pread(fd, index->buffer, want, (off_t)at) != (ssize_t)want)
			return differs(walk, "audit: its size differs");
		if (!hash_equal(hash_block(&index->key, index->buffer, want), inode->hash[at / HASH_BLOCK_BYTES]))
			return differs(walk, "audit: its content differs");
	}
	return 0;
}

static int audit_opened(const struct walk *walk, const struct inode *inode, int fd, const struct stat *st)
{
	struct attributes attributes;
	if (attributes_read(walk->index, walk->root, fd, walk->index->path, &attributes) != 0)
		return -1;
	if (!hash_equal(attributes.hash, inode->meta.attributes))
		return differs(walk, "audit: its attributes differ");
	return S_ISREG(st->st_mode) ? audit_content(walk, inode, fd) : 0;
}

static int audit_meta(const struct walk *walk, const struct node *node, const struct stat *st)
{
	const struct inode_meta *was = &node->inode->meta;
	/* Nothing is there on the standby: whose nothing it is does not matter. */
	if (is_whiteout(walk->root, st->st_mode, st->st_rdev) && is_whiteout(walk->root, was->mode, was->rdev))
		return 0;
	if (was->ino != st->st_ino || was->mode != st->st_mode || was->rdev != st->st_rdev)
		return differs(walk, "audit: it is another");
	if (was->uid != st->st_uid || was->gid != st->st_gid)
		return differs(walk, "audit: its owner differs");
	if (was->mtime.tv_sec != st->st_mtim.tv_sec || was->mtime.tv_nsec != st->st_mtim.tv_nsec)
		return differs(walk, S_ISDIR(st->st_mode) ? "audit: the directory's time differs" : "audit: its time differs");
	if (S_ISREG(st->st_mode) && was->size != (uint64_t)st->st_size)
		return differs(walk, "audit: its size differs");
	return 0;
}

static int audit_directory(struct walk *walk, struct node *dir, int fd);

static int audit_entry(struct walk *walk, int dirfd, struct node *node, const struct stat *st)
{
	if (node == NULL || node->inode == NULL || (walk->root->told && node_is_dropped(walk->index, node)))
		return differs(walk, "audit: it is new");
	if (audit_meta(walk, node, st) != 0)
		return -1;
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return 0;
	int fd = openat(dirfd, node->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	if (fd < 0)
		return walk_fail(walk, "audit: cannot be opened");
	int result = audit_opened(walk, node->inode, fd, st);
	if (result == 0 && S_ISDIR(st->st_mode))
		result = audit_directory(walk, node, fd);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

/* 1: one of ours, 0: not, -1. */
static int audit_name(struct walk *walk, int dirfd, struct node *dir, const char *name)
{
	struct stat st;
	size_t before;
	if (walk_push(walk, name, &before) != 0)
		return -1;
	int result = fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : walk_fail(walk, "audit: cannot stat it");
	if (result == 0 && !is_left_out(walk->root, st.st_mode) && st.st_dev == walk->root->dev && !is_excluded(walk->index, walk->root, walk->index->path))
		result = audit_entry(walk, dirfd, node_child(dir, name), &st) == 0 ? 1 : -1;
	walk_pop(walk, before);
	return result;
}

static int audit_directory(struct walk *walk, struct node *dir, int fd)
{
	uint32_t count = 0;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
	DIR *listing = copy < 0 ? NULL : fdopendir(copy);
	if (listing == NULL)
		return walk_fail(walk, "audit: cannot be read");
	node_sort(dir);
	for (struct dirent *entry; result >= 0 && (entry = readdir(listing)) != NULL;)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			result = audit_name(walk, fd, dir, entry->d_name);
			count += result == 1;
		}
	int error = errno;
	closedir(listing);
	errno = error;
	if (result < 0)
		return -1;
	return count == dir->children ? 0 : differs(walk, "audit: something in it is gone");
}

int audit_root(struct files_index *index, struct root *root)
{
	struct walk walk = {.index = index, .root = root};
	struct stat st;
	index->path[0] = 0;
	if (fstat(root->fd, &st) != 0)
		return index_fail(index, root, "", "audit: cannot stat the root");
	if (audit_meta(&walk, root->top, &st) != 0 || audit_opened(&walk, root->top->inode, root->fd, &st) != 0)
		return -1;
	return audit_directory(&walk, root->top, root->fd);
}
