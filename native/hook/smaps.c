#include "hook/smaps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/flags.h"
#include "hook/helper.h"
#include "hook/whole.h"

enum { TEXT_BYTES = 16 << 10 }; /* above the longest line, and the page that the kernel gives at once */

static struct {
	struct stat folder; /* of /proc/PID */
	int directory;
	char text[TEXT_BYTES];
	int memory;
	bool ready, begun, whole;
	bool composed, viewed;
	struct flags_view view;
	char *composition;
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

/* Piece by piece: what is kept of all whole lines so far is written, and the beginning of a line stays. */
static bool copy_filtered(int from)
{
	for (size_t have = 0;;) {
		ssize_t got = read(from, state.text + have, TEXT_BYTES - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || (got == 0 && have > 0))
			return false; /* smaps ends with a newline */
		if (got == 0)
			return lseek(state.memory, 0, SEEK_SET) == 0;
		have += (size_t)got;
		const char *last = memrchr(state.text, '\n', have);
		if (last == NULL && have == TEXT_BYTES)
			return false;
		size_t whole = last == NULL ? 0 : (size_t)(last - state.text) + 1;
		char rest[TEXT_BYTES];
		memcpy(rest, state.text + whole, have - whole);
		if (!whole_write(state.memory, state.text, smaps_filter(state.text, whole)))
			return false;
		memcpy(state.text, rest, have -= whole);
	}
}

/* Without a look at pages, if all flags are known by name. */
static bool compose(void)
{
	state.viewed = state.composition != NULL && flags_see(state.directory, &state.view);
	size_t length = state.viewed ? flags_compose(&state.view, state.composition, 2 * state.view.room) : 0;
	state.composed = length > 0 && whole_write(state.memory, state.composition, length) && lseek(state.memory, 0, SEEK_SET) == 0;
	if (!state.composed && length > 0 && (ftruncate(state.memory, 0) != 0 || lseek(state.memory, 0, SEEK_SET) != 0))
		state.viewed = false;
	return state.composed;
}

static void read_smaps(const struct job *job)
{
	(void)job;
	if (compose()) {
		state.whole = true;
		return;
	}
	/* Opened now: an open one is of the memory that the task had then, before an exec for instance. */
	int fd = (int)syscall(SYS_openat, state.directory, "smaps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	state.whole = copy_filtered(fd);
	syscall(SYS_close, fd);
}

bool smaps_prepare(pid_t pid)
{
	char path[48];
	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	/* Kept open, it keeps its inode's number: by that we know it when CRIU opens it. */
	state.directory = (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	state.memory = (int)syscall(SYS_memfd_create, "smaps", MFD_CLOEXEC);
	if (flags_can() && flags_see_all(state.directory, &state.view) && flags_room(&state.view, state.view.length))
		state.composition = malloc(2 * state.view.room);
	if (state.composition != NULL)
		memset(state.composition, 0, 2 * state.view.room); /* made present */
	state.ready = state.directory >= 0 && fstat(state.directory, &state.folder) == 0 && state.memory >= 0;
	return state.ready;
}

void smaps_begin(void)
{
	const struct job job = { .run = read_smaps };
	if (state.ready)
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

bool smaps_composed(void)
{
	return state.composed;
}

void smaps_learn(void)
{
	if (!state.viewed || state.composed || !state.whole)
		return;
	off_t length = lseek(state.memory, 0, SEEK_END);
	char *text = length < 0 ? NULL : malloc((size_t)length + 1);
	if (text != NULL && pread(state.memory, text, (size_t)length, 0) == (ssize_t)length) {
		text[length] = 0;
		flags_learn(&state.view, text);
	}
	free(text);
}
