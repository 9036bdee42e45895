#include "hook/pages.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	int fd, directory;
	const char *name;
	struct stat folder;
	bool used;
} state = { .fd = -1 };

static bool forget(void)
{
	syscall(SYS_close, state.fd);
	state.fd = -1;
	return syscall(SYS_unlinkat, state.directory, state.name, 0) == 0;
}

bool pages_prepare(int directory, const char *name, size_t bytes)
{
	if (fstat(directory, &state.folder) != 0)
		return false;
	state.directory = directory;
	state.name = name;
	state.fd = (int)syscall(SYS_openat, directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (state.fd < 0)
		return false;
	if (syscall(SYS_fallocate, state.fd, 0, (off_t)0, (off_t)bytes) == 0)
		return true;
	(void)forget(); /* CRIU truncates what it finds */
	return false;
}

int pages_open(int directory, const char *name, int flags)
{
	struct stat now;
	if (state.fd < 0 || state.used || (flags & (O_CREAT | O_TRUNC)) != (O_CREAT | O_TRUNC) || (flags & O_ACCMODE) == O_RDONLY ||
	    strcmp(name, state.name) != 0)
		return -1;
	if (fstat(directory, &now) != 0 || now.st_ino != state.folder.st_ino || now.st_dev != state.folder.st_dev)
		return -1;
	/* The same open file, so that the offset at the end tells what was written. */
	int fd = (int)syscall(SYS_fcntl, state.fd, F_DUPFD, 0);
	state.used = fd >= 0;
	return fd;
}

bool pages_trim(void)
{
	if (state.fd < 0)
		return true;
	if (!state.used)
		return forget();
	off_t end = lseek(state.fd, 0, SEEK_CUR);
	bool trimmed = end >= 0 && ftruncate(state.fd, end) == 0;
	syscall(SYS_close, state.fd);
	state.fd = -1;
	return trimmed;
}
