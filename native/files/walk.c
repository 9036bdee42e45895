/*
 * The first half of a scan: finds what changed by stat calls alone, and reads no content. A directory is read only if its own
 * times moved; its entries are looked at either way, because a file's change does not move its directory's times.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "files/index.h"
#include "files/walk.h"

/* The kernel stamps with a clock that ticks every 1 to 10 ms; twice that is on the safe side. */
#define RACY_NS 20000000ll

int time_is_racy(const struct files_index *index, const struct timespec *at)
{
	const struct timespec *start = &index->scan_start;
	if (at->tv_sec > start->tv_sec + 1 || at->tv_sec < start->tv_sec - 1)
		return at->tv_sec > start->tv_sec;
	int64_t age_ns = (int64_t)(start->tv_sec - at->tv_sec) * 1000000000ll + (start->tv_nsec - at->tv_nsec);
	return age_ns < RACY_NS; /* also when it lies in the future: the clock was stepped */
}

/* A socket is not carried, as CRIU makes it again; but it hides what the image has under its name, and nothing may be there then. */
int is_whiteout(const struct root *root, uint32_t mode, uint64_t rdev)
{
	return root->kind == FILES_UPPER && ((S_ISCHR(mode) && rdev == makedev(0, 0)) || S_ISSOCK(mode));
}

int is_left_out(const struct root *root, uint32_t mode) { return S_ISSOCK(mode) && root->kind != FILES_UPPER; }

static int same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int walk_is_unchanged(const struct files_index *index, const struct root *root, const struct node *node, const struct stat *st)
{
	const struct inode_meta *was = node->inode ? &node->inode->meta : NULL;
	if (was == NULL || was->stale || was->ino != st->st_ino || was->dev != st->st_dev || was->mode != st->st_mode ||
	    !same_time(&was->ctime, &st->st_ctim) || !same_time(&was->mtime, &st->st_mtim))
		return 0;
	if (!S_ISREG(st->st_mode))
		return 1;
	return was->size == (uint64_t)st->st_size && !root->always_compare && !is_mapped(index, root, st->st_ino);
}

int is_excluded(const struct files_index *index, const struct root *root, const char *path)
{
	size_t name_bytes = root->name[1] == 0 ? 0 : strlen(root->name);
	for (size_t i = 0; i < index->excludes; i++) {
		const char *rule = index->exclude[i];
		if (strncmp(rule, root->name, name_bytes) == 0 && rule[name_bytes] == '/' && strcmp(rule + name_bytes + 1, path) == 0)
			return 1;
	}
	return 0;
}

static int walk_directory(struct walk *walk, struct node *dir, int fd, const struct stat *st);

int walk_fail(const struct walk *walk, const char *what)
{
	return index_fail(walk->index, walk->root, walk->index->path, what);
}

int walk_push(struct walk *walk, const char *name, size_t *before)
{
	size_t bytes = strlen(name), slash = walk->path_bytes > 0;
	*before = walk->path_bytes;
	if (bytes > FILES_NAME_BYTES_MAX || walk->path_bytes + slash + bytes >= EPOCH_PATH_BYTES_MAX) {
		errno = ENAMETOOLONG;
		return walk_fail(walk, "the path below here is too long");
	}
	char *at = walk->index->path + walk->path_bytes;
	if (slash)
		*at++ = '/';
	memcpy(at, name, bytes + 1);
	walk->path_bytes += slash + bytes;
	return 0;
}

void walk_pop(struct walk *walk, size_t before)
{
	walk->path_bytes = before;
	walk->index->path[before] = 0;
}

/* A child that belongs to the files; 1 to go on with it, 0 to leave it out, -1. */
static int look(struct walk *walk, int dirfd, const char *name, struct stat *st)
{
	if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno == ENOENT)
			return 0; /* removed meanwhile: presync, or a socket's neighbour */
		return walk_fail(walk, "cannot stat an entry");
	}
	if (is_left_out(walk->root, st->st_mode) || st->st_dev != walk->root->dev) {
		walk->index->stats->skipped++;
		return 0;
	}
	return walk->index->excludes == 0 || !is_excluded(walk->index, walk->root, walk->index->path);
}

static int descend(struct walk *walk, int dirfd, struct node *node)
{
	if (walk->depth + 1 > FILES_DEPTH_MAX) {
		errno = ELOOP;
		return walk_fail(walk, "directories are nested too deeply");
	}
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, fd = openat(dirfd, node->name, flags | O_NOATIME);
	struct stat st;
	if (fd < 0 && errno == EPERM)
		fd = openat(dirfd, node->name, flags);
	if (fd < 0 && !walk->index->options->frozen && (errno == ENOENT || errno == ENOTDIR))
		return node->seen = 0, 0;
	if (fd < 0 || fstat(fd, &st) != 0)
		return walk_fail(walk, "cannot open a directory");
	walk->depth++;
	int result = walk_directory(walk, node, fd, &st), error = errno;
	walk->depth--;
	close(fd);
	errno = error;
	return result;
}

int walk_visit(struct walk *walk, int dirfd, struct node *node)
{
	struct files_index *index = walk->index;
	struct stat st;
	size_t before;
	if (walk_push(walk, node->name, &before) != 0)
		return -1;
	int result = look(walk, dirfd, node->name, &st);
	if (result == 1) {
		if (++index->stats->entries > index->limits.entries_max) {
			errno = ENFILE;
			return walk_fail(walk, "more entries than the limit");
		}
		node->seen = index->scan;
		node->dev = st.st_dev;
		node->ino = st.st_ino;
		node->rdev = st.st_rdev;
		node->mode = st.st_mode;
		result = 0;
		if (S_ISDIR(st.st_mode))
			result = descend(walk, dirfd, node);
		else if (node->children > 0) /* was a directory */
			result = node_drop_unseen(index, walk->root, node);
		if (S_ISDIR(st.st_mode) || result != 0)
			;
		else if (!walk_is_unchanged(index, walk->root, node, &st))
			result = list_add(&walk->root->changed, node);
	}
	walk_pop(walk, before);
	return result;
}

struct linux_dirent64 {
	uint64_t ino;
	int64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

static int add_name(struct walk *walk, struct node *dir, uint32_t sorted, const char *name)
{
	struct node known = *dir;
	known.children = sorted; /* those appended just now cannot be the same name again */
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || node_child(&known, name) != NULL)
		return 0;
	struct node *child = strlen(name) > FILES_NAME_BYTES_MAX ? NULL : node_new(dir, name);
	if (child == NULL || node_add(walk->index, dir, child) != 0)
		return walk_fail(walk, "no memory for an entry");
	return 0;
}

static int read_names(struct walk *walk, struct node *dir, int fd)
{
	char buffer[32768] __attribute__((aligned(8)));
	uint32_t sorted = dir->children;
	for (;;) {
		long got = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
		if (got < 0)
			return walk_fail(walk, "cannot read a directory");
		if (got == 0)
			break;
		for (long at = 0; at < got;) {
			const struct linux_dirent64 *entry = (const void *)(buffer + at);
			if (add_name(walk, dir, sorted, entry->name) != 0)
				return -1;
			at += entry->length;
		}
	}
	node_sort(dir);
	return 0;
}

static int walk_directory(struct walk *walk, struct node *dir, int fd, const struct stat *st)
{
	int unchanged = walk_is_unchanged(walk->index, walk->root, dir, st);
	dir->walked_scan = walk->index->scan;
	node_sort(dir);
	if (!unchanged && (list_add(&walk->root->changed, dir) != 0 || read_names(walk, dir, fd) != 0))
		return -1;
	for (uint32_t i = 0; i < dir->children; i++)
		if (walk_visit(walk, fd, dir->child[i]) != 0)
			return -1;
	/* Also where the directory did not change: an entry may have become a socket or another mount. */
	return node_drop_unseen(walk->index, walk->root, dir);
}

static int begin(struct files_index *index, struct root *root, struct stat *st)
{
	index->path[0] = 0;
	if (fstat(root->fd, st) != 0)
		return index_fail(index, root, "", "cannot stat the root");
	root->top->seen = index->scan;
	root->top->dev = st->st_dev;
	root->top->ino = st->st_ino;
	root->top->mode = st->st_mode;
	root->changed.count = root->gone.count = root->dirs.count = root->opaque.count = 0;
	root->files.count = root->others.count = root->links.count = root->targets.count = 0;
	return 0;
}

int walk_begin_told(struct files_index *index, struct root *root)
{
	struct stat st;
	if (begin(index, root, &st) != 0)
		return -1;
	return walk_is_unchanged(index, root, root->top, &st) ? 0 : list_add(&root->changed, root->top);
}

int walk_root(struct files_index *index, struct root *root)
{
	struct walk walk = {.index = index, .root = root};
	struct stat st;
	if (begin(index, root, &st) != 0)
		return -1;
	int fd = openat(root->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return index_fail(index, root, "", "cannot open the root");
	int result = walk_directory(&walk, root->top, fd, &st), error = errno;
	close(fd);
	errno = error;
	return result;
}
