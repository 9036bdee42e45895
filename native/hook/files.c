/* The libc's files, in the CRIU process: the kdat cache elsewhere, images that are prepared, and failing on demand. */
#include "hook/hook.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hook/descriptors.h"
#include "hook/diag.h"
#include "hook/images.h"
#include "hook/late.h"
#include "hook/pages.h"
#include "hook/phases.h"
#include "hook/smaps.h"
#include "hook/splices.h"
#include "hook/texts.h"
#include "hook/witness.h"
#include "hook/written.h"

static const char kdat_prefix[] = "/run/criu.kdat";

static const char *redirected(const char *path, char *room, size_t size)
{
	if (hook.kdat == NULL || strncmp(path, kdat_prefix, sizeof kdat_prefix - 1) != 0)
		return path;
	snprintf(room, size, "%s/%s", hook.kdat, path + sizeof "/run/" - 1);
	return room;
}

/* What was prepared for it; -1 for nothing. */
static int open_frozen(int directory, const char *path, int flags, mode_t mode)
{
	phase_opened(path);
	int fd = images_open(directory, path, flags, mode);
	if (fd >= 0)
		hook.used |= HOOK_IMAGES;
	else if ((fd = pages_open(directory, path, flags)) >= 0)
		hook.used |= HOOK_PAGES;
	else if ((fd = descriptors_open(directory, path, flags)) >= 0)
		return fd;
	else if ((fd = texts_open(directory, path, flags)) >= 0)
		return fd;
	else if ((fd = smaps_open(directory, path)) >= 0)
		hook.used |= HOOK_SMAPS;
	return fd;
}

static int open_common(int directory, const char *path, int flags, mode_t mode)
{
	char room[PATH_MAX];
	int fd = -1;
	if (hook.stage == STAGE_READING) {
		enum witness_answer answer = witness_open(directory, path, flags, &fd);
		if (answer == WITNESS_GIVEN)
			return fd;
		if (answer == WITNESS_UNKNOWN)
			late_freeze();
	}
	if ((flags & O_CREAT) != 0 || strcmp(path, "smaps") == 0)
		hook_await_mark();
	if ((flags & O_CREAT) != 0 && hook_must_fail()) {
		errno = ECANCELED;
		return -1;
	}
	if (hook.stage == STAGE_FROZEN)
		fd = open_frozen(directory, path, flags, mode);
	if (fd < 0)
		fd = (int)syscall(SYS_openat, directory, redirected(path, room, sizeof room), flags, mode);
	if (hook.stage == STAGE_FROZEN && (flags & O_CREAT) != 0 && (hook.shortcuts & HOOK_SPLICES) != 0)
		splices_image(path, fd);
	if (hook.stage == STAGE_READING)
		witness_opened(path, fd);
	return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
	return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                                       \
	int name(const char *path, int flags, ...);                      \
	int name(const char *path, int flags, ...)                       \
	{                                                                \
		va_list arguments;                                       \
		va_start(arguments, flags);                              \
		mode_t mode = mode_of(flags, arguments);                 \
		va_end(arguments);                                       \
		return open_common(AT_FDCWD, path, flags, mode);         \
	}
#define OPENAT(name)                                                     \
	int name(int directory, const char *path, int flags, ...);       \
	int name(int directory, const char *path, int flags, ...)        \
	{                                                                \
		va_list arguments;                                       \
		va_start(arguments, flags);                              \
		mode_t mode = mode_of(flags, arguments);                 \
		va_end(arguments);                                       \
		return open_common(directory, path, flags, mode);        \
	}
/* glibc's headers may declare these as macros of one another. */
#undef open
#undef open64
#undef openat
#undef openat64
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

DIR *fdopendir(int fd)
{
	static DIR *(*real)(int);
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "fdopendir");
	DIR *list = real(fd);
	if (hook.stage == STAGE_READING)
		witness_listing(fd, list);
	return list;
}

/* On x86-64 both are one and the same. */
#define READDIR(name, type)                                                      \
	struct type *name(DIR *list)                                             \
	{                                                                        \
		static struct type *(*real)(DIR *);                              \
		if (real == NULL)                                                \
			*(void **)&real = dlsym(RTLD_NEXT, #name);               \
		struct type *entry = real(list);                                 \
		if (hook.stage == STAGE_READING)                                 \
			witness_entry(list, entry == NULL ? NULL : entry->d_name); \
		return entry;                                                    \
	}
#undef readdir
#undef readdir64
READDIR(readdir, dirent)
READDIR(readdir64, dirent64)

int unlink(const char *path)
{
	char room[PATH_MAX];
	return (int)syscall(SYS_unlinkat, AT_FDCWD, redirected(path, room, sizeof room), 0);
}

int rename(const char *from, const char *to)
{
	char from_room[PATH_MAX], to_room[PATH_MAX];
	return (int)syscall(SYS_renameat2, AT_FDCWD, redirected(from, from_room, sizeof from_room), AT_FDCWD,
			    redirected(to, to_room, sizeof to_room), 0);
}

ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t length, unsigned flags)
{
	if (hook_must_fail()) {
		errno = ECANCELED;
		return -1;
	}
	if (from_offset == NULL && to_offset == NULL && splices_take(from, to, length)) {
		hook.used |= HOOK_SPLICES;
		return (ssize_t)length;
	}
	return syscall(SYS_splice, from, from_offset, to, to_offset, length, flags);
}

int pipe(int ends[2])
{
	int result = (int)syscall(SYS_pipe2, ends, 0);
	if (result == 0 && hook.stage == STAGE_FROZEN && (hook.shortcuts & HOOK_SPLICES) != 0)
		splices_piped(ends[0], ends[1]);
	return result;
}

ssize_t read(int fd, void *room, size_t size)
{
	ssize_t got;
	return descriptors_text(fd, room, size, &got) ? got : syscall(SYS_read, fd, room, size);
}

/* CRIU looks at each descriptor that it gets before anything else. */
int fstat64(int fd, struct stat64 *found)
{
	_Static_assert(sizeof(struct stat64) == sizeof(struct stat), "one and the same");
	int result = (int)syscall(SYS_fstat, fd, found);
	if (result == 0 && hook.stage == STAGE_FROZEN)
		descriptors_seen(fd, (const struct stat *)found);
	return result;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	const struct iovec all = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = length };
	ssize_t written;
	return images_take(fd, &all, 1, &written) ? written : syscall(SYS_write, fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *vector, int count)
{
	ssize_t written;
	return images_take(fd, vector, count, &written) ? written : syscall(SYS_writev, fd, vector, count);
}

int close(int fd)
{
	images_closed(fd);
	descriptors_closed(fd);
	splices_closed(fd);
	written_closed(fd);
	return (int)syscall(SYS_close, fd);
}

/* A pipe is about to be filled again: by CRIU, or by the parasite, which gets it first. */
ssize_t vmsplice(int fd, const struct iovec *vector, size_t count, unsigned flags)
{
	(void)splices_finish();
	return syscall(SYS_vmsplice, fd, vector, count, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	(void)splices_finish();
	if (hook.stage == STAGE_FROZEN && late_is_on())
		late_infected(); /* the parasite has a socket */
	if (hook.stage == STAGE_READING)
		diag_asked(fd, message);
	return syscall(SYS_sendmsg, fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t got = syscall(SYS_recvmsg, fd, message, flags);
	int error = errno;
	if (hook.stage == STAGE_READING)
		diag_heard(fd, message, got);
	errno = error;
	return got;
}
