#include "hook/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

enum { ENTRIES_MAX = 4096, NUMBERS_MAX = 8192, TEXT_BYTES_MAX = 192, VALUE_BYTES_MAX = 16, NONE = -1 };

/* In the order in which CRIU 4.2.1 asks; `length` is how much room it offers. */
static const struct question {
	int level, name;
	socklen_t length;
} question[] = {
	{ SOL_SOCKET, SO_DOMAIN, 4 }, { SOL_SOCKET, SO_PROTOCOL, 4 }, { SOL_SOCKET, SO_TYPE, 4 },
	{ SOL_IP, IP_FREEBIND, 4 }, { SOL_IP, IP_PKTINFO, 4 }, { SOL_IP, IP_TOS, 4 }, { SOL_IP, IP_TTL, 4 },
	{ SOL_IPV6, IPV6_V6ONLY, 4 }, { SOL_IPV6, IPV6_FREEBIND, 4 }, { SOL_IPV6, IPV6_RECVPKTINFO, 4 },
	{ SOL_SOCKET, SO_BUF_LOCK, 4 }, { SOL_SOCKET, SO_PRIORITY, 4 }, { SOL_SOCKET, SO_RCVLOWAT, 4 }, { SOL_SOCKET, SO_MARK, 4 },
	{ SOL_SOCKET, SO_SNDTIMEO, 16 }, { SOL_SOCKET, SO_RCVTIMEO, 16 }, { SOL_SOCKET, SO_REUSEADDR, 4 }, { SOL_SOCKET, SO_REUSEPORT, 4 },
	{ SOL_SOCKET, SO_DONTROUTE, 4 }, { SOL_SOCKET, SO_NO_CHECK, 4 }, { SOL_SOCKET, SO_BROADCAST, 4 }, { SOL_SOCKET, SO_KEEPALIVE, 4 },
	{ SOL_SOCKET, SO_OOBINLINE, 4 }, { SOL_SOCKET, SO_LINGER, 8 }, { SOL_SOCKET, SO_BINDTODEVICE, 16 },
	{ SOL_TCP, TCP_NODELAY, 4 }, { SOL_TCP, TCP_CORK, 4 }, { SOL_TCP, TCP_KEEPCNT, 4 }, { SOL_TCP, TCP_KEEPIDLE, 4 }, { SOL_TCP, TCP_KEEPINTVL, 4 },
};
enum { QUESTIONS = sizeof question / sizeof *question };

struct answer {
	unsigned char value[VALUE_BYTES_MAX];
	socklen_t length;
	bool given;
};

struct entry {
	atomic_bool done;
	bool options; /* it is a socket of the internet */
	uint32_t text_length; /* 0: not read */
	char text[TEXT_BYTES_MAX];
	struct answer answer[QUESTIONS];
};

static struct {
	int folder, pidfd, nothing; /* /proc/PID; the target; what CRIU is given for a text */
	struct stat folder_is;
	int known; /* a number that CRIU has of the same folder; NONE: none is known */
	struct entry *entry;
	uint32_t number[ENTRIES_MAX], inode[ENTRIES_MAX]; /* inode 0: it is no socket */
	atomic_size_t count; /* 0: they are not all listed */
	size_t sockets; /* among them */
	bool all, unlisted; /* every descriptor has been looked at; there are none to be looked at */
	atomic_size_t passed; /* so many sockets CRIU has looked at, in the same order */
	int16_t socket_of[NUMBERS_MAX], text_of[NUMBERS_MAX]; /* a place + 1, by CRIU's descriptor */
	uint8_t next[NUMBERS_MAX];  /* the question that CRIU is expected to ask */
	uint16_t read_to[NUMBERS_MAX]; /* how far CRIU has read a text */
	bool ready;
} state = { .folder = -1, .pidfd = -1, .nothing = -1, .known = NONE };

bool descriptors_prepare(pid_t target)
{
	_Static_assert(ENTRIES_MAX < INT16_MAX && QUESTIONS < UINT8_MAX, "places fit");
	char path[32];
	snprintf(path, sizeof path, "/proc/%d", (int)target);
	state.folder = (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	state.nothing = (int)syscall(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	state.pidfd = (int)syscall(SYS_pidfd_open, target, 0);
	state.entry = calloc(ENTRIES_MAX, sizeof *state.entry);
	if (state.folder < 0 || state.nothing < 0 || state.pidfd < 0 || state.entry == NULL || 
	    fstatat(state.folder, "", &state.folder_is, AT_EMPTY_PATH) != 0)
		return false;
	for (size_t i = 0; i < ENTRIES_MAX / 16; i++) /* touched now, not in the freeze */
		memset(state.entry[i].text, 0, sizeof state.entry[i].text);
	memset(state.socket_of, 0, sizeof state.socket_of);
	memset(state.text_of, 0, sizeof state.text_of);
	state.ready = true;
	return true;
}

/* ---- beside CRIU ---- */

static void read_text(struct entry *entry, uint32_t number)
{
	char path[32];
	snprintf(path, sizeof path, "fdinfo/%u", (unsigned)number);
	int fd = (int)syscall(SYS_openat, state.folder, path, O_RDONLY | O_CLOEXEC, 0);
	long got = fd < 0 ? -1 : syscall(SYS_read, fd, entry->text, sizeof entry->text);
	char more;
	if (got > 0 && got < (long)sizeof entry->text && syscall(SYS_read, fd, &more, 1) == 0)
		entry->text_length = (uint32_t)got;
	if (fd >= 0)
		syscall(SYS_close, fd);
}

static void ask(struct entry *entry, uint32_t number, uint32_t inode)
{
	int fd = (int)syscall(SYS_pidfd_getfd, state.pidfd, number, 0);
	struct stat found;
	if (fd < 0)
		return;
	bool same = syscall(SYS_fstat, fd, &found) == 0 && S_ISSOCK(found.st_mode) && (uint32_t)found.st_ino == inode;
	int family = 0;
	socklen_t length = sizeof family;
	entry->options = same && syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &family, &length) == 0 &&
			 (family == AF_INET || family == AF_INET6);
	for (size_t i = 0; entry->options && i < QUESTIONS; i++) {
		struct answer *answer = &entry->answer[i];
		if (question[i].level == (family == AF_INET ? SOL_IPV6 : SOL_IP))
			continue;
		answer->length = question[i].length;
		answer->given = syscall(SYS_getsockopt, fd, question[i].level, question[i].name, answer->value, &answer->length) == 0 &&
				answer->length <= VALUE_BYTES_MAX;
	}
	syscall(SYS_close, fd);
}

void descriptors_list(const char *names, size_t length)
{
	size_t count = 0;
	state.unlisted = length == 0; /* CRIU had not listed them before the freeze, and nothing is asked beside it */
	if (!state.ready || state.unlisted)
		return;
	for (size_t at = 0; at < length; at += strlen(names + at) + 1, count++) {
		struct stat found;
		char path[24];
		snprintf(path, sizeof path, "fd/%.16s", names + at);
		if (count == ENTRIES_MAX || fstatat(state.folder, path, &found, 0) != 0)
			return;
		state.number[count] = (uint32_t)strtoul(names + at, NULL, 10);
		state.inode[count] = S_ISSOCK(found.st_mode) ? (uint32_t)found.st_ino : 0;
		state.sockets += state.inode[count] != 0;
	}
	atomic_store_explicit(&state.count, count, memory_order_release);
	state.all = true;
}

void descriptors_ask(size_t left)
{
	/* CRIU comes from the other end: what it has passed is asked already. */
	for (size_t i = atomic_load_explicit(&state.count, memory_order_relaxed), before = state.sockets; i-- > 0;) {
		if (state.inode[i] == 0)
			continue;
		before--;
		if (before < left || before < atomic_load_explicit(&state.passed, memory_order_relaxed))
			return;
		struct entry *entry = &state.entry[i];
		read_text(entry, state.number[i]);
		ask(entry, state.number[i], state.inode[i]);
		atomic_store_explicit(&entry->done, true, memory_order_release);
		/* CRIU has a task of the application do something, and that wakes where this runs: it waited for more than a millisecond. */
		sched_yield();
	}
}

ssize_t descriptors_sockets(uint32_t *inode, size_t max)
{
	size_t sockets = 0, count = atomic_load_explicit(&state.count, memory_order_acquire);
	for (size_t i = 0; i < count; i++) {
		if (state.inode[i] == 0)
			continue;
		if (sockets == max)
			return -1;
		inode[sockets++] = state.inode[i];
	}
	return state.all ? (ssize_t)sockets : -1;
}

/* ---- answering ---- */

/* Of one that is not done the contents may not be looked at. CRIU goes through them in the order of the list. */
static size_t find(const uint32_t *list, uint32_t wanted)
{
	static size_t last;
	size_t count = atomic_load_explicit(&state.count, memory_order_acquire);
	for (size_t tried = 0; tried < count; tried++) {
		size_t i = (last + tried) % count;
		if (list[i] != wanted)
			continue;
		last = i;
		return atomic_load_explicit(&state.entry[i].done, memory_order_acquire) ? i : ENTRIES_MAX;
	}
	return ENTRIES_MAX;
}

void descriptors_seen(int fd, const struct stat *found)
{
	if (!state.ready || fd < 0 || fd >= NUMBERS_MAX)
		return;
	state.socket_of[fd] = 0;
	if (!S_ISSOCK(found->st_mode) || (uint32_t)found->st_ino == 0)
		return;
	atomic_fetch_add_explicit(&state.passed, 1, memory_order_relaxed);
	size_t place = find(state.inode, (uint32_t)found->st_ino);
	if (place == ENTRIES_MAX || !state.entry[place].options)
		return;
	state.socket_of[fd] = (int16_t)(place + 1);
	state.next[fd] = 0;
}

bool descriptors_option(int fd, int level, int name, void *value, socklen_t *length, int *result)
{
	int place = fd >= 0 && fd < NUMBERS_MAX ? state.socket_of[fd] : 0;
	if (place == 0 || value == NULL)
		return false;
	for (size_t tried = 0; tried < QUESTIONS; tried++) {
		size_t i = (state.next[fd] + tried) % QUESTIONS;
		const struct answer *answer = &state.entry[place - 1].answer[i];
		if (question[i].level != level || question[i].name != name)
			continue;
		if (!answer->given || *length != question[i].length)
			return false;
		memcpy(value, answer->value, answer->length);
		*length = answer->length;
		*result = 0;
		state.next[fd] = (uint8_t)((i + 1) % QUESTIONS);
		return true;
	}
	return false;
}

static bool is_the_folder(int directory)
{
	struct stat theirs;
	if (directory == state.known)
		return true;
	if (directory < 0 || syscall(SYS_fstat, directory, &theirs) != 0 || theirs.st_ino != state.folder_is.st_ino || theirs.st_dev != state.folder_is.st_dev)
		return false;
	state.known = directory;
	return true;
}

int descriptors_open(int directory, const char *path, int flags)
{
	static const char prefix[] = "fdinfo/";
	if (!state.ready || strncmp(path, prefix, sizeof prefix - 1) != 0 || (flags & O_ACCMODE) != O_RDONLY || !is_the_folder(directory))
		return -1;
	char *end;
	unsigned long number = strtoul(path + sizeof prefix - 1, &end, 10);
	size_t place = *end != 0 || end == path + sizeof prefix - 1 ? ENTRIES_MAX : find(state.number, (uint32_t)number);
	if (place == ENTRIES_MAX || state.entry[place].text_length == 0)
		return -1;
	int fd = (int)syscall(SYS_fcntl, state.nothing, (flags & O_CLOEXEC) ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (fd >= NUMBERS_MAX)
		syscall(SYS_close, fd);
	if (fd < 0 || fd >= NUMBERS_MAX)
		return -1;
	state.text_of[fd] = (int16_t)(place + 1);
	state.read_to[fd] = 0;
	return fd;
}

bool descriptors_text(int fd, void *room, size_t size, ssize_t *got)
{
	int place = fd >= 0 && fd < NUMBERS_MAX ? state.text_of[fd] : 0;
	if (place == 0)
		return false;
	const struct entry *entry = &state.entry[place - 1];
	size_t left = entry->text_length - state.read_to[fd];
	*got = (ssize_t)(left < size ? left : size);
	memcpy(room, entry->text + state.read_to[fd], (size_t)*got);
	state.read_to[fd] = (uint16_t)(state.read_to[fd] + *got);
	return true;
}

void descriptors_closed(int fd)
{
	if (fd == state.known)
		state.known = NONE;
	if (fd >= 0 && fd < NUMBERS_MAX)
		state.socket_of[fd] = state.text_of[fd] = 0;
}

bool descriptors_whole(void)
{
	return state.all || state.unlisted;
}
