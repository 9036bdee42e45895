#include "hook/smaps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/helper.h"

enum { TEXT_BYTES_MAX = 4 << 20 }; /* about 5,000 areas; beyond it is read the plain way */

static struct {
	struct stat folder; /* of /proc/PID */
	int directory;
	char *text;
	int memory;
	bool begun, whole;
} state = { .directory = -1, .memory = -1 };

static bool wanted(const char *line, size_t length)
{
	static const char flags[] = "VmFlags:";
	/* The first line of an area begins with its address in small letters, every other with a capital. */
	bool area = length > 0 && ((line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f'));
	return area || (length >= sizeof flags - 1 && memcmp(line, flags, sizeof flags - 1) == 0);
}

size_t smaps_filter(char *text, size_t length)
{
	size_t kept = 0;
	for (size_t at = 0; at < length;) {
		const char *newline = memchr(text + at, '\n', length - at);
		size_t line = newline == NULL ? length - at : (size_t)(newline - text) + 1 - at;
		if (wanted(text + at, line)) {
			memmove(text + kept, text + at, line);
			kept += line;
		}
		at += line;
	}
	return kept;
}

static bool write_all(const char *text, size_t length)
{
	while (length > 0) {
		ssize_t wrote = write(state.memory, text, length);
		if (wrote <= 0)
			return false;
		text += wrote;
		length -= (size_t)wrote;
	}
	return lseek(state.memory, 0, SEEK_SET) == 0;
}

/* The length; 0 when it could not be read whole. */
static size_t read_all(int fd)
{
	for (size_t length = 0; length < TEXT_BYTES_MAX;) {
		ssize_t got = read(fd, state.text + length, TEXT_BYTES_MAX - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0 ? length : 0;
		length += (size_t)got;
	}
	return 0;
}

static void read_smaps(const struct job *job)
{
	(void)job;
	/* Opened now: an open one is of the memory that the task had then, before an exec for instance. */
	int fd = (int)syscall(SYS_openat, state.directory, "smaps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	size_t length = smaps_filter(state.text, read_all(fd));
	syscall(SYS_close, fd);
	state.whole = length > 0 && write_all(state.text, length);
}

bool smaps_prepare(pid_t pid)
{
	char path[48];
	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	/* Kept open, it keeps its inode's number: by that we know it when CRIU opens it. */
	state.directory = (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	state.memory = (int)syscall(SYS_memfd_create, "smaps", MFD_CLOEXEC);
	void *text = mmap(NULL, TEXT_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	state.text = text == MAP_FAILED ? NULL : text;
	return state.directory >= 0 && fstat(state.directory, &state.folder) == 0 && state.memory >= 0 && state.text != NULL;
}

void smaps_begin(void)
{
	const struct job job = { .run = read_smaps };
	if (state.text != NULL)
		state.begun = helper_post(&job);
}

int smaps_open(int directory, const char *path)
{
	struct stat folder;
	if (!state.begun || strcmp(path, "smaps") != 0 || fstat(directory, &folder) != 0 || folder.st_ino != state.folder.st_ino ||
	    folder.st_dev != state.folder.st_dev)
		return -1;
	state.begun = false; /* once */
	helper_finish();
	if (!state.whole)
		return -1;
	return (int)syscall(SYS_fcntl, state.memory, F_DUPFD, 0);
}
