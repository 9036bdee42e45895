#include "hook/filters.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "enter/enter.h"

enum {
	FILTERS_MAX = 2048, /* of all threads together */
	INSTRUCTIONS_MAX = 4096,
	ROOM_BYTES = 4 << 20,
	MAGIC = 0x43544646, /* "FFTC" */
	VERSION = 1,
	STAT_BYTES = 1024,
	START_FIELD = 22,
};

#define STORED_AT ENTER_WORK_PATH "/seccomp-filters"

/* One filter of one thread, its instructions in `room`. The last of a thread has none: it says how many there are. */
struct filter {
	uint64_t start; /* of the thread, in ticks since boot */
	uint64_t flags;
	uint32_t tid, index;
	uint32_t from, length; /* bytes in the room */
	uint32_t last, has_flags;
	uint32_t current, answered; /* seen in this dump; CRIU had it from here */
};

struct header {
	uint32_t magic, version, count, bytes, crc, zero;
};

static struct {
	struct filter filter[FILTERS_MAX];
	size_t count, loaded;
	unsigned char *room;
	size_t used;
	bool full;
} state;

static uint64_t start_of(pid_t tid)
{
	char path[32], text[STAT_BYTES];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)tid);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		syscall(SYS_close, fd);
	if (got <= 0)
		return 0;
	text[got] = 0;
	char *at = strrchr(text, ')');
	for (int field = 2; at != NULL && field < START_FIELD; field++)
		at = strchr(at + 1, ' ');
	return at == NULL ? 0 : strtoull(at, NULL, 10);
}

/* How many filters a thread has; -1: the kernel does not say. */
static long count_of(pid_t tid)
{
	static const char name[] = "\nSeccomp_filters:";
	char path[32], text[4096];
	snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		syscall(SYS_close, fd);
	if (got <= 0)
		return -1;
	text[got] = 0;
	char *at = strstr(text, name);
	return at == NULL ? -1 : strtol(at + sizeof name - 1, NULL, 10);
}

static struct filter *find(pid_t tid, uint32_t index)
{
	for (size_t i = 0; i < state.count; i++)
		if (state.filter[i].tid == (uint32_t)tid && state.filter[i].index == index)
			return &state.filter[i];
	return NULL;
}

static bool is_sound(const struct filter *filter, size_t bytes)
{
	return filter->length <= INSTRUCTIONS_MAX * sizeof(struct sock_filter) && filter->length % sizeof(struct sock_filter) == 0 &&
	       filter->from <= bytes && filter->length <= bytes - filter->from && (filter->length == 0) == (filter->last != 0);
}

void filters_load(void)
{
	struct header header;
	state.room = malloc(ROOM_BYTES);
	int fd = state.room == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, STORED_AT, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	bool whole = read(fd, &header, sizeof header) == (ssize_t)sizeof header && header.magic == MAGIC && header.version == VERSION &&
		     header.count <= FILTERS_MAX && header.bytes <= ROOM_BYTES;
	size_t list = whole ? header.count * sizeof *state.filter : 0;
	whole = whole && read(fd, state.filter, list) == (ssize_t)list && read(fd, state.room, header.bytes) == (ssize_t)header.bytes &&
		ft_crc32c(ft_crc32c(0, state.filter, list), state.room, header.bytes) == header.crc;
	syscall(SYS_close, fd);
	for (size_t i = 0; whole && i < header.count; i++)
		whole = is_sound(&state.filter[i], header.bytes);
	for (size_t i = 0; whole && i < header.count; i++)
		state.filter[i].current = state.filter[i].answered = false;
	if (whole) {
		state.count = state.loaded = header.count;
		state.used = header.bytes;
	}
}

/* Whether what is known of a thread is true of it now. */
static bool is_current(pid_t tid)
{
	const struct filter *first = find(tid, 0);
	if (first == NULL || first->start == 0 || first->start != start_of(tid))
		return false;
	long count = count_of(tid);
	const struct filter *last = count < 0 ? NULL : find(tid, (uint32_t)count);
	return last != NULL && last->last;
}

bool filters_answer(int request, pid_t tid, void *address, void *data, long *result)
{
	if (request != PTRACE_SECCOMP_GET_FILTER && request != PTRACE_SECCOMP_GET_METADATA)
		return false;
	uint64_t offset = (uintptr_t)address;
	if (request == PTRACE_SECCOMP_GET_METADATA)
		memcpy(&offset, data, sizeof offset);
	struct filter *found = offset > FILTERS_MAX ? NULL : find(tid, (uint32_t)offset);
	if (found == NULL || (offset == 0 && request == PTRACE_SECCOMP_GET_FILTER && !is_current(tid)))
		return false;
	if (request == PTRACE_SECCOMP_GET_METADATA) {
		struct __ptrace_seccomp_metadata answer = { .filter_off = offset, .flags = found->flags };
		if (!found->has_flags || (uintptr_t)address < sizeof answer)
			return false;
		memcpy(data, &answer, sizeof answer);
		*result = (long)sizeof answer;
	} else if (found->last) {
		errno = ENOENT;
		*result = -1;
	} else {
		if (data != NULL)
			memcpy(data, state.room + found->from, found->length);
		*result = (long)(found->length / sizeof(struct sock_filter));
	}
	found->answered = found->current = true;
	return true;
}

/* Of another life of this number. */
static void forget(pid_t tid)
{
	for (size_t i = 0; i < state.count;)
		if (state.filter[i].tid == (uint32_t)tid)
			state.filter[i] = state.filter[--state.count];
		else
			i++;
}

static void add(pid_t tid, uint64_t index, const void *data, size_t length, bool last)
{
	if (index == 0)
		forget(tid);
	if (state.room == NULL || state.count == FILTERS_MAX || length > ROOM_BYTES - state.used) {
		state.full = true;
		return;
	}
	state.filter[state.count++] = (struct filter){
		.start = start_of(tid), .tid = (uint32_t)tid, .index = (uint32_t)index,
		.from = (uint32_t)state.used, .length = (uint32_t)length, .last = last, .current = true,
	};
	if (length > 0)
		memcpy(state.room + state.used, data, length);
	state.used += length;
	state.loaded = 0; /* there is something to keep */
}

void filters_note(int request, pid_t tid, void *address, const void *data, long result, int error)
{
	uint64_t index = (uintptr_t)address;
	if (request == PTRACE_SECCOMP_GET_FILTER && result > 0 && result <= INSTRUCTIONS_MAX && data != NULL)
		add(tid, index, data, (size_t)result * sizeof(struct sock_filter), false);
	else if (request == PTRACE_SECCOMP_GET_FILTER && result < 0 && error == ENOENT)
		add(tid, index, NULL, 0, true);
	if (request != PTRACE_SECCOMP_GET_METADATA || result < (long)sizeof(struct __ptrace_seccomp_metadata))
		return;
	struct __ptrace_seccomp_metadata said;
	memcpy(&said, data, sizeof said);
	struct filter *filter = find(tid, (uint32_t)said.filter_off);
	if (filter != NULL) {
		filter->flags = said.flags;
		filter->has_flags = true;
	}
}

bool filters_same(void)
{
	for (size_t i = 0; i < state.count; i++)
		if (state.filter[i].answered && state.filter[i].last &&
		    (state.filter[i].start != start_of((pid_t)state.filter[i].tid) ||
		     count_of((pid_t)state.filter[i].tid) != (long)state.filter[i].index))
			return false;
	return true;
}

/* Threads that have gone leave nothing behind. */
static void keep_current(void)
{
	unsigned char *room = malloc(ROOM_BYTES);
	size_t count = 0, used = 0;
	for (size_t i = 0; room != NULL && i < state.count; i++) {
		struct filter *filter = &state.filter[i];
		if (!filter->current)
			continue;
		memcpy(room + used, state.room + filter->from, filter->length);
		filter->from = (uint32_t)used;
		used += filter->length;
		state.filter[count++] = *filter;
	}
	if (room == NULL)
		return;
	free(state.room);
	state.room = room;
	state.count = count;
	state.used = used;
}

void filters_save(void)
{
	if (state.full)
		(void)syscall(SYS_unlinkat, AT_FDCWD, STORED_AT, 0); /* begun anew with the next dump */
	if (state.loaded > 0 || state.count == 0 || state.full)
		return;
	keep_current();
	size_t list = state.count * sizeof *state.filter;
	struct header header = { .magic = MAGIC, .version = VERSION, .count = (uint32_t)state.count, .bytes = (uint32_t)state.used };
	header.crc = ft_crc32c(ft_crc32c(0, state.filter, list), state.room, state.used);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, STORED_AT ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return; /* the next dump asks again */
	bool whole = write(fd, &header, sizeof header) == (ssize_t)sizeof header && write(fd, state.filter, list) == (ssize_t)list &&
		     write(fd, state.room, state.used) == (ssize_t)state.used;
	syscall(SYS_close, fd);
	if (whole)
		(void)syscall(SYS_renameat2, AT_FDCWD, STORED_AT ".new", AT_FDCWD, STORED_AT, 0);
}
