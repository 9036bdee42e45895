#include "files/apply_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "disk/disk.h"

static int remove_below(int dirfd, const char *name, unsigned depth, uint64_t *skipped);

static int remove_entries(DIR *dir, unsigned depth, uint64_t *skipped)
{
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (entry == NULL)
			return errno == 0 ? 0 : -1;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (remove_below(dirfd(dir), entry->d_name, depth + 1, skipped) != 0)
			return -1;
	}
}

static int remove_directory(int at, const char *name, unsigned depth, uint64_t *skipped)
{
	DIR *dir = disk_list(at, name);
	if (dir == NULL)
		return -1;
	int result = remove_entries(dir, depth, skipped), error = errno;
	closedir(dir);
	errno = error;
	return result != 0 ? -1 : unlinkat(at, name, AT_REMOVEDIR);
}

static int remove_below(int at, const char *name, unsigned depth, uint64_t *skipped)
{
	if (depth > 2 * FILES_DEPTH_MAX) {
		errno = ELOOP;
		return -1;
	}
	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR || errno == EPERM) {
		if (unlinkat(at, name, AT_REMOVEDIR) == 0)
			return 0;
		if (errno == ENOTEMPTY || errno == EEXIST) {
			if (remove_directory(at, name, depth, skipped) == 0)
				return 0;
		}
	}
	if (errno == EBUSY || errno == ENOTEMPTY) { /* a mount point, or a directory that holds one */
		++*skipped;
		return 0;
	}
	return -1;
}

int entry_remove(int dirfd, const char *name, uint64_t *skipped)
{
	return remove_below(dirfd, name, 0, skipped);
}

static void times_of(const struct file_meta *meta, struct timespec times[2])
{
	times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	times[1] = (struct timespec){.tv_sec = meta->mtime_s, .tv_nsec = meta->mtime_ns};
}

int entry_set_meta_at(int dirfd, const char *name, const struct file_meta *meta)
{
	struct timespec times[2];
	times_of(meta, times);
	if (fchownat(dirfd, name, meta->uid, meta->gid, AT_SYMLINK_NOFOLLOW) != 0)
		return -1;
	/* Made by us an instant ago, and no link: there is nothing that could be followed. */
	if ((meta->mode & S_IFMT) != S_IFLNK && fchmodat(dirfd, name, meta->mode & 07777, 0) != 0)
		return -1;
	return utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW);
}

int entry_set_owner(int fd, const struct file_meta *meta)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return -1;
	return st.st_uid == meta->uid && st.st_gid == meta->gid ? 0 : fchown(fd, meta->uid, meta->gid);
}

int entry_set_meta(int fd, const struct file_meta *meta)
{
	struct timespec times[2];
	struct stat st;
	times_of(meta, times);
	if (fstat(fd, &st) != 0 ||
	    ((st.st_mode & 07777) != (meta->mode & 07777) && fchmod(fd, meta->mode & 07777) != 0))
		return -1;
	return futimens(fd, times);
}

static int is_ours(const char *name)
{
	return strncmp(name, "user.", 5) == 0 || (strncmp(name, "trusted.", 8) == 0 && strncmp(name, "trusted.overlay.", 16) != 0) ||
	       strcmp(name, "security.capability") == 0 || strncmp(name, "system.posix_acl_", 17) == 0;
}

static int is_named(struct epoch_cursor c, uint32_t count, const char *name)
{
	static _Thread_local struct files_op op;
	while (count-- > 0 && files_op_next(&c, &op, NULL) == 1)
		if (strcmp(op.other, name) == 0)
			return 1;
	return 0;
}

static int remove_others(int fd, struct epoch_cursor c, uint32_t count, uint64_t *skipped)
{
	char names[65536];
	ssize_t bytes = flistxattr(fd, names, sizeof names);
	if (bytes < 0)
		return errno == EOPNOTSUPP ? 0 : -1;
	for (ssize_t at = 0; at < bytes; at += (ssize_t)strlen(names + at) + 1)
		if (is_ours(names + at) && !is_named(c, count, names + at) && fremovexattr(fd, names + at) != 0 && errno != ENODATA)
			++*skipped;
	return 0;
}

int entry_set_attributes(int fd, struct epoch_cursor *c, uint32_t count, uint64_t *skipped)
{
	static _Thread_local struct files_op op;
	if (remove_others(fd, *c, count, skipped) != 0)
		return -1;
	for (; count > 0 && files_op_next(c, &op, NULL) == 1; count--)
		if (fsetxattr(fd, op.other, op.bytes, op.length, 0) != 0) {
			if (errno == ENOSPC || errno == EDQUOT)
				return -1;
			++*skipped;
		}
	return 0;
}

int entry_zero(int fd, uint64_t offset, uint64_t length)
{
	static const uint8_t zeroes[65536];
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -1;
	while (length > 0) {
		uint64_t bytes = length < sizeof zeroes ? length : sizeof zeroes;
		if (disk_write_at(fd, zeroes, bytes, offset) != 0)
			return -1;
		offset += bytes;
		length -= bytes;
	}
	return 0;
}
