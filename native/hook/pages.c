#include "hook/pages.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The first process's. CRIU numbers them in the order in which it dumps. */
static const char prepared_name[] = "pages-1.img";

static struct {
	int fd;
	struct stat directory;
	bool used;
} state = { .fd = -1 };

static void forget(int directory)
{
	syscall(SYS_close, state.fd);
	state.fd = -1;
	syscall(SYS_unlinkat, directory, prepared_name, 0);
}

bool pages_prepare(int directory, size_t bytes)
{
	if (fstat(directory, &state.directory) != 0)
		return false;
	state.fd = (int)syscall(SYS_openat, directory, prepared_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (state.fd < 0)
		return false;
	if (syscall(SYS_fallocate, state.fd, 0, (off_t)0, (off_t)bytes) == 0)
		return true;
	forget(directory);
	return false;
}

int pages_open(int directory, const char *name, int flags)
{
	struct stat now;
	if (state.fd < 0 || state.used || (flags & (O_CREAT | O_TRUNC)) != (O_CREAT | O_TRUNC) || (flags & O_ACCMODE) == O_RDONLY ||
	    strcmp(name, prepared_name) != 0)
		return -1;
	if (fstat(directory, &now) != 0 || now.st_ino != state.directory.st_ino || now.st_dev != state.directory.st_dev)
		return -1;
	/* The same open file, so that the offset at the end tells what was written. */
	int fd = (int)syscall(SYS_fcntl, state.fd, F_DUPFD, 0);
	state.used = fd >= 0;
	return fd;
}

bool pages_trim(void)
{
	if (!state.used)
		return true;
	off_t end = lseek(state.fd, 0, SEEK_CUR);
	bool trimmed = end >= 0 && ftruncate(state.fd, end) == 0;
	syscall(SYS_close, state.fd);
	state.fd = -1;
	return trimmed;
}
