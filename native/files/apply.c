#include "files/apply.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "disk/disk.h"
#include "files/apply_entry.h"

struct apply {
	int root;   /* of the section, inside the container */
	int parent; /* of the path at hand */
	char parent_path[EPOCH_PATH_BYTES_MAX + 1];
	int parent_known;
	const struct files_section *section;
	struct tracked *tracked;
	struct files_apply_stats *stats;
	struct epoch_error *e;
	struct epoch_cursor c;
	struct files_op op;
};

static int failed(struct apply *a, const char *path, const char *what)
{
	int space = errno == ENOSPC || errno == EDQUOT || errno == ENOMEM;
	return epoch_fail(a->e, space ? "space" : "io", errno, "%s in %s: %.120s: %s", what, a->section->name, path,
	                  strerror(errno));
}

static int open_in(int at, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = resolve};
	return (int)syscall(SYS_openat2, at, *path ? path : ".", &how, sizeof how);
}

static void forget_parent(struct apply *a)
{
	if (a->parent_known && a->parent != a->root)
		close(a->parent);
	a->parent_known = 0;
}

/*
 * The directory that holds `path`, kept for the next operation, and the last component's name. NULL with errno; EXDEV: behind
 * another mount, where the application does not see this root's files either.
 */
static const char *enter_parent(struct apply *a, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t bytes = slash ? (size_t)(slash - path) : 0;
	if (a->parent_known && strlen(a->parent_path) == bytes && memcmp(a->parent_path, path, bytes) == 0)
		return slash ? slash + 1 : path;
	forget_parent(a);
	memcpy(a->parent_path, path, bytes);
	a->parent_path[bytes] = 0;
	a->parent = a->root;
	if (bytes > 0)
		a->parent = open_in(a->root, a->parent_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
		                    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
	if (a->parent < 0)
		return NULL;
	a->parent_known = 1;
	return slash ? slash + 1 : path;
}

/* Removing or replacing a directory may make the kept one stale. */
static int remove_entry(struct apply *a, int at, const char *name)
{
	return entry_remove(at, name, &a->stats->skipped);
}

static int type_of(int at, const char *name, uint32_t *mode)
{
	struct stat st;
	*mode = 0;
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -1;
	*mode = st.st_mode & S_IFMT;
	return 0;
}

static int open_entry(int at, const char *name, int flags)
{
	return open_in(at, name, flags | O_NOFOLLOW | O_NONBLOCK,
	               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

/*
 * What could not be taken away is a mount point, as Docker makes of /etc/hosts: the application sees that, not this file, so
 * the operation is left out like everything behind a mount.
 */
static int unless_mounted(int result)
{
	if (result < 0 && (errno == EEXIST || errno == EBUSY))
		errno = EXDEV;
	return result;
}

static int apply_dir(struct apply *a, const char *name)
{
	uint32_t mode;
	if (type_of(a->parent, name, &mode) != 0)
		return -1;
	if (mode == S_IFDIR)
		return 0;
	if (mode != 0 && remove_entry(a, a->parent, name) != 0)
		return -1;
	return unless_mounted(mkdirat(a->parent, name, 0700));
}

static int apply_rename(struct apply *a)
{
	const char *name = enter_parent(a, a->op.path);
	uint32_t from = 0, to = 0;
	if (name == NULL && errno != ENOENT && errno != ENOTDIR)
		return -1;
	int source = name ? dup(a->parent) : -1;
	char source_name[FILES_NAME_BYTES_MAX + 1] = "";
	if (name != NULL)
		strcpy(source_name, name);
	name = enter_parent(a, a->op.other);
	int result = name == NULL || (source >= 0 && type_of(source, source_name, &from) != 0) || type_of(a->parent, name, &to) != 0
	                     ? -1
	                     : 0;
	if (result == 0 && from == 0) { /* done before a kill, if the target is there */
		errno = ENOENT;
		result = to == S_IFREG ? 0 : -1;
	} else if (result == 0) {
		if (to == S_IFDIR)
			result = remove_entry(a, a->parent, name);
		if (result == 0)
			result = unless_mounted(renameat(source, source_name, a->parent, name));
	}
	int error = errno;
	if (source >= 0)
		close(source);
	errno = error;
	return result;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int remove_all_but(struct apply *a, int fd, char **kept, size_t count)
{
	DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		close(fd);
		return -1;
	}
	int result = 0;
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		char *name = entry ? entry->d_name : NULL;
		if (entry == NULL) {
			result = errno == 0 ? result : -1;
			break;
		}
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || bsearch(&name, kept, count, sizeof *kept, by_text) != NULL)
			continue;
		if (remove_entry(a, fd, name) != 0) {
			result = -1;
			break;
		}
	}
	int error = errno;
	closedir(dir);
	errno = error;
	return result;
}

static int apply_opaque(struct apply *a)
{
	char path[EPOCH_PATH_BYTES_MAX + 1];
	uint32_t count = a->op.count, got = 0;
	strcpy(path, a->op.path);
	/* files_check() has seen that so many names follow, so the size is bounded by the blob's. */
	char **kept = calloc(count ? count : 1, sizeof *kept);
	int result = kept ? 0 : -1;
	while (result == 0 && got < count && files_op_next(&a->c, &a->op, NULL) == 1)
		if ((kept[got++] = strdup(a->op.path)) == NULL)
			result = -1;
	int fd = -1;
	if (result == 0) {
		qsort(kept, count, sizeof *kept, by_text);
		fd = open_entry(a->root, path, O_RDONLY | O_DIRECTORY);
		result = fd < 0 ? -1 : remove_all_but(a, fd, kept, count);
	}
	int error = errno;
	for (uint32_t i = 0; i < got; i++)
		free(kept[i]);
	free(kept);
	forget_parent(a);
	errno = error;
	return result;
}

static int open_file(struct apply *a, const char *name, int create)
{
	struct stat st;
	if (create) {
		if (remove_entry(a, a->parent, name) != 0)
			return -1;
		return unless_mounted(openat(a->parent, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
	}
	int fd = open_entry(a->parent, name, O_RDWR);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	return fd;
}

static int write_content(struct apply *a, int fd, uint64_t size)
{
	struct stat st;
	if (fstat(fd, &st) != 0 || ((uint64_t)st.st_size != size && ftruncate(fd, (off_t)size) != 0))
		return -1;
	for (;;) {
		struct epoch_cursor here = a->c;
		if (files_op_next(&a->c, &a->op, NULL) != 1 || (a->op.type != FILES_DATA && a->op.type != FILES_HOLE)) {
			a->c = here;
			return 0;
		}
		if (a->op.type == FILES_HOLE ? entry_zero(fd, a->op.offset, a->op.length) != 0
		                             : disk_write_at(fd, a->op.bytes, a->op.length, a->op.offset) != 0)
			return -1;
		a->stats->bytes += a->op.type == FILES_DATA ? a->op.length : 0;
	}
}

static int finish_entry(struct apply *a, int fd, const struct file_meta *meta, uint32_t attributes)
{
	if (entry_set_owner(fd, meta) != 0 || entry_set_attributes(fd, &a->c, attributes, &a->stats->skipped) != 0)
		return -1;
	return entry_set_meta(fd, meta);
}

static int apply_file(struct apply *a, const char *name)
{
	struct file_meta meta = a->op.meta;
	uint32_t attributes = a->op.count;
	uint64_t size = a->op.size;
	int fd = open_file(a, name, a->op.create);
	if (fd < 0)
		return -1;
	int result = write_content(a, fd, size);
	if (result == 0)
		result = finish_entry(a, fd, &meta, attributes);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static int apply_symlink(struct apply *a, const char *name)
{
	if (remove_entry(a, a->parent, name) != 0 || unless_mounted(symlinkat(a->op.other, a->parent, name)) != 0)
		return -1;
	return entry_set_meta_at(a->parent, name, &a->op.meta);
}

static int apply_node(struct apply *a, const char *name)
{
	if (remove_entry(a, a->parent, name) != 0)
		return -1;
	if (unless_mounted(mknodat(a->parent, name, a->op.meta.mode, (dev_t)a->op.rdev)) != 0) {
		if (errno != EPERM)
			return -1;
		a->stats->skipped++;
		return 0;
	}
	return entry_set_meta_at(a->parent, name, &a->op.meta);
}

static int apply_link(struct apply *a)
{
	const char *name = enter_parent(a, a->op.path);
	struct stat existing, there;
	char existing_name[FILES_NAME_BYTES_MAX + 1];
	if (name == NULL)
		return -1;
	strcpy(existing_name, name);
	int source = dup(a->parent);
	if (source < 0)
		return -1;
	int result = fstatat(source, existing_name, &existing, AT_SYMLINK_NOFOLLOW);
	name = result == 0 ? enter_parent(a, a->op.other) : NULL;
	if (name == NULL)
		result = -1;
	else if (fstatat(a->parent, name, &there, AT_SYMLINK_NOFOLLOW) != 0 || there.st_ino != existing.st_ino ||
	         there.st_dev != existing.st_dev)
		result = remove_entry(a, a->parent, name) != 0 ? -1
		                                               : unless_mounted(linkat(source, existing_name, a->parent, name, 0));
	int error = errno;
	close(source);
	errno = error;
	return result;
}

static int apply_remove(struct apply *a)
{
	const char *name = enter_parent(a, a->op.path);
	if (name == NULL)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
	int result = remove_entry(a, a->parent, name), error = errno;
	forget_parent(a); /* the next one's may be below what is gone now */
	errno = error;
	return result;
}

static int apply_dirmeta(struct apply *a)
{
	struct file_meta meta = a->op.meta;
	int fd = open_entry(a->root, a->op.path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return -1;
	int result = finish_entry(a, fd, &meta, a->op.count), error = errno;
	close(fd);
	errno = error;
	return result;
}

static int apply_op(struct apply *a)
{
	const char *name = NULL;
	switch (a->op.type) {
	case FILES_RENAME:
		return apply_rename(a);
	case FILES_OPAQUE:
		return apply_opaque(a);
	case FILES_LINK:
		return apply_link(a);
	case FILES_REMOVE:
		return apply_remove(a);
	case FILES_DIRMETA:
		return apply_dirmeta(a);
	case FILES_DIR:
	case FILES_FILE:
	case FILES_SYMLINK:
	case FILES_NODE:
		if ((name = enter_parent(a, a->op.path)) == NULL)
			return -1;
		break;
	default:
		return 0; /* what belongs to an operation that was skipped */
	}
	if (a->op.type == FILES_DIR)
		return apply_dir(a, name);
	if (a->op.type == FILES_FILE)
		return apply_file(a, name);
	return a->op.type == FILES_SYMLINK ? apply_symlink(a, name) : apply_node(a, name);
}

static int remove_unnamed(void *context, const char *path)
{
	struct apply *a = context;
	const char *name = enter_parent(a, path);
	if (name == NULL)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EXDEV ? 0 : -1;
	int result = remove_entry(a, a->parent, name), error = errno;
	forget_parent(a);
	errno = error;
	return result;
}

/* A plain tree: whatever the section does not name goes. `path` is the directory's; it is restored on return. */
static int prune_tree(struct apply *a, const struct path_set *named, int at, char *path, unsigned depth)
{
	size_t bytes = strlen(path);
	DIR *dir = fdopendir(at);
	int result = 0;
	if (dir == NULL) {
		close(at);
		return -1;
	}
	while (result == 0) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (entry == NULL) {
			result = errno == 0 ? 0 : -1;
			break;
		}
		const char *name = entry->d_name;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		size_t slash = bytes > 0, name_bytes = strlen(name);
		int fits = bytes + slash + name_bytes < EPOCH_PATH_BYTES_MAX && depth <= FILES_DEPTH_MAX;
		if (fits) {
			if (slash)
				path[bytes] = '/';
			memcpy(path + bytes + slash, name, name_bytes + 1);
		}
		if (!fits || !path_set_has(named, path)) {
			result = remove_entry(a, at, name);
		} else {
			int below = open_entry(at, name, O_RDONLY | O_DIRECTORY);
			if (below >= 0)
				result = prune_tree(a, named, below, path, depth + 1);
		}
		path[bytes] = 0;
	}
	int error = errno;
	closedir(dir);
	errno = error;
	return result;
}

/* Before anything is made, so that room is there; directories get their times at the end. */
static int prune(struct apply *a)
{
	struct path_set named = {0};
	char path[EPOCH_PATH_BYTES_MAX + 1] = "";
	int result = path_set_of_section(&named, a->section);
	if (result != 0) {
		errno = ENOMEM;
	} else if (a->section->kind == FILES_UPPER) {
		result = a->tracked ? tracked_unnamed(a->tracked, &named, remove_unnamed, a) : 0;
	} else {
		int fd = open_in(a->root, ".", O_RDONLY | O_DIRECTORY, 0);
		result = fd < 0 ? -1 : prune_tree(a, &named, fd, path, 0);
	}
	int error = errno;
	path_set_free(&named);
	errno = error;
	return result;
}

static int apply_all(struct apply *a)
{
	int more;
	char path[161] = "";
	if (a->section->reset && prune(a) != 0)
		return failed(a, "", "taking away what is not part of it");
	a->c = a->section->ops;
	while ((more = files_op_next(&a->c, &a->op, a->e)) == 1) {
		if (a->op.type != FILES_DATA && a->op.type != FILES_ATTR)
			snprintf(path, sizeof path, "%.160s", a->op.path);
		if (apply_op(a) == 0) {
			a->stats->entries++;
			continue;
		}
		if (errno != EXDEV)
			return failed(a, path, "an operation failed");
		a->stats->skipped++;
	}
	return more;
}

int files_root_open(int container_fd, const struct files_section *section)
{
	return open_in(container_fd, section->name + 1, O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int files_apply(int container_fd, const struct files_section *section, struct tracked *tracked,
                struct files_apply_stats *stats, struct epoch_error *e)
{
	struct apply *a = calloc(1, sizeof *a);
	if (a == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory to apply files");
	a->section = section;
	a->tracked = tracked;
	a->stats = stats;
	a->e = e;
	a->root = files_root_open(container_fd, section);
	int result = a->root < 0 ? failed(a, "", "the root cannot be opened") : 0;
	if (result == 0 && tracked != NULL)
		result = tracked_before(tracked, section, e);
	if (result == 0)
		result = apply_all(a);
	if (result == 0 && tracked != NULL)
		result = tracked_after(tracked, section, e);
	forget_parent(a);
	if (a->root >= 0)
		close(a->root);
	free(a);
	return result;
}
