#include "hook/texts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/whole.h"

enum { TEXTS_MAX = 256, TEXT_BYTES_MAX = 8 << 10, PATH_BYTES = 32, NONE = -1 };

static struct {
	int folder; /* /proc/PID */
	struct stat folder_is;
	struct {
		char path[PATH_BYTES];
		int fd; /* NONE: it has been given */
	} text[TEXTS_MAX];
	atomic_size_t count; /* so many are done */
	size_t given;        /* CRIU asks in the order of the threads */
	bool ready, all;
} state = { .folder = NONE };

bool texts_prepare(pid_t target)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof path, "/proc/%d", (int)target);
	state.folder = (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	memset(state.text, 0, sizeof state.text); /* touched now, not in the freeze */
	state.ready = state.folder >= 0 && fstatat(state.folder, "", &state.folder_is, AT_EMPTY_PATH) == 0;
	return state.ready;
}

/* ---- beside CRIU ---- */

/* The whole file, or -1: one that does not fit is left to CRIU. */
static ssize_t read_whole(const char *path, char *room, size_t size)
{
	size_t length = 0;
	ssize_t got = -1;
	int fd = (int)syscall(SYS_openat, state.folder, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	while (length < size && (got = syscall(SYS_read, fd, room + length, size - length)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		length += (size_t)got;
	}
	syscall(SYS_close, fd);
	return got == 0 ? (ssize_t)length : -1;
}

static int keep(const char *path)
{
	char room[TEXT_BYTES_MAX];
	ssize_t length = read_whole(path, room, sizeof room);
	int fd = length < 0 ? NONE : (int)syscall(SYS_memfd_create, "text", MFD_CLOEXEC);
	if (fd >= 0 && (!whole_write(fd, room, (size_t)length) || lseek(fd, 0, SEEK_SET) != 0)) {
		syscall(SYS_close, fd);
		return NONE;
	}
	return fd;
}

void texts_read(const pid_t *thread, size_t count)
{
	for (size_t i = 0; state.ready && i < count && i < TEXTS_MAX; i++) {
		snprintf(state.text[i].path, sizeof state.text[i].path, "task/%d/cgroup", (int)thread[i]);
		state.text[i].fd = keep(state.text[i].path);
		if (state.text[i].fd < 0)
			return;
		atomic_store_explicit(&state.count, i + 1, memory_order_release);
	}
	state.all = state.ready && count <= TEXTS_MAX;
}

/* ---- answering ---- */

static bool is_the_folder(int directory)
{
	struct stat theirs;
	return directory >= 0 && syscall(SYS_fstat, directory, &theirs) == 0 && theirs.st_ino == state.folder_is.st_ino &&
	       theirs.st_dev == state.folder_is.st_dev;
}

int texts_open(int directory, const char *path, int flags)
{
	if (!state.ready || (flags & ~O_CLOEXEC) != O_RDONLY || strncmp(path, "task/", 5) != 0)
		return NONE;
	size_t count = atomic_load_explicit(&state.count, memory_order_acquire);
	for (size_t tried = 0; tried < count; tried++) {
		size_t i = (state.given + tried) % count;
		if (strcmp(state.text[i].path, path) != 0)
			continue;
		if (state.text[i].fd < 0 || !is_the_folder(directory))
			return NONE;
		int fd = state.text[i].fd;
		state.text[i].fd = NONE;
		state.given = i + 1;
		return fd;
	}
	return NONE;
}

bool texts_whole(void)
{
	return state.all;
}
