/*
 * What the kernel says about files: times and inode numbers differ on another host, and after files were written again by a
 * replay; servers make version tags of them. So the answers come from the log.
 */
#include "recorder/facts.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct question {
	int at, flags;
	unsigned mask;
	const char *path;
	void *out;
};

static long real_stat(void *question)
{
	const struct question *q = question;
	return ft_syscall(SYS_newfstatat, (long)q->at, q->path, q->out, (long)q->flags);
}

static long real_statx(void *question)
{
	const struct question *q = question;
	return ft_syscall(SYS_statx, (long)q->at, q->path, (long)q->flags, (long)q->mask, q->out);
}

static uint32_t object_of(const struct question *q)
{
	return q->path == NULL || *q->path == 0 ? (uint32_t)q->at : ft_checksum(q->path, strlen(q->path));
}

static int answer(bool recorded, struct question q)
{
	return (int)(recorded ? ft_fact(LOG_STAT, object_of(&q), real_stat, &q, q.out, sizeof(struct stat)) : real_stat(&q));
}

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one struct for both");
#define R FT_CALLER_IS_RECORDED
#define BY_PATH(name, type, followed) \
	FT_PUBLIC int name(const char *restrict path, struct type *restrict out) \
	{ \
		return answer(R, (struct question){.at = AT_FDCWD, .path = path, .flags = followed, .out = out}); \
	}
#define BY_NUMBER(name, type) \
	FT_PUBLIC int name(int fd, struct type *out) \
	{ \
		return answer(R, (struct question){.at = fd, .path = "", .flags = AT_EMPTY_PATH, .out = out}); \
	}
#define BELOW(name, type) \
	FT_PUBLIC int name(int at, const char *restrict path, struct type *restrict out, int flags) \
	{ \
		return answer(R, (struct question){.at = at, .path = path, .flags = flags, .out = out}); \
	}
/* Programs made for a C library older than 2.33 call these. */
#define OLD(name, parameters, arguments) \
	int name parameters; \
	FT_PUBLIC int name parameters \
	{ \
		(void)version; \
		return answer(R, (struct question)arguments); \
	}
#define ARGUMENTS(...) {__VA_ARGS__}
BY_PATH(stat, stat, 0)
BY_PATH(stat64, stat64, 0)
BY_PATH(lstat, stat, AT_SYMLINK_NOFOLLOW)
BY_PATH(lstat64, stat64, AT_SYMLINK_NOFOLLOW)
BY_NUMBER(fstat, stat)
BY_NUMBER(fstat64, stat64)
BELOW(fstatat, stat)
BELOW(fstatat64, stat64)
OLD(__xstat, (int version, const char *path, struct stat *out), ARGUMENTS(.at = AT_FDCWD, .path = path, .out = out))
OLD(__xstat64, (int version, const char *path, struct stat64 *out), ARGUMENTS(.at = AT_FDCWD, .path = path, .out = out))
OLD(__lxstat, (int version, const char *path, struct stat *out),
    ARGUMENTS(.at = AT_FDCWD, .path = path, .flags = AT_SYMLINK_NOFOLLOW, .out = out))
OLD(__lxstat64, (int version, const char *path, struct stat64 *out),
    ARGUMENTS(.at = AT_FDCWD, .path = path, .flags = AT_SYMLINK_NOFOLLOW, .out = out))
OLD(__fxstat, (int version, int fd, struct stat *out), ARGUMENTS(.at = fd, .path = "", .flags = AT_EMPTY_PATH, .out = out))
OLD(__fxstat64, (int version, int fd, struct stat64 *out), ARGUMENTS(.at = fd, .path = "", .flags = AT_EMPTY_PATH, .out = out))
OLD(__fxstatat, (int version, int at, const char *path, struct stat *out, int flags),
    ARGUMENTS(.at = at, .path = path, .flags = flags, .out = out))
OLD(__fxstatat64, (int version, int at, const char *path, struct stat64 *out, int flags),
    ARGUMENTS(.at = at, .path = path, .flags = flags, .out = out))

FT_PUBLIC int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict out)
{
	struct question q = {.at = at, .path = path, .flags = flags, .mask = mask, .out = out};
	return (int)(R ? ft_fact(LOG_STAT, object_of(&q), real_statx, &q, out, sizeof *out) : real_statx(&q));
}
