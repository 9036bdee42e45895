/* A process's epoll sets, read from the kernel and put right after sockets were rebuilt or replaced: live/take.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "live/take.h"

enum { INFO_BYTES = 4096, NAMES_BYTES = 2048 };

struct entry { /* of getdents64 */
	uint64_t inode;
	int64_t next;
	uint16_t length;
	uint8_t kind;
	char name[];
};

static bool is_epoll(int fd)
{
	static const char wanted[] = "anon_inode:[eventpoll]";
	char path[64], target[sizeof wanted + 1];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(path, target, sizeof target);
	return length == sizeof wanted - 1 && memcmp(target, wanted, sizeof wanted - 1) == 0;
}

/* "tfd:        5 events:       19 data:                5  pos:0 ino:… sdev:…" */
static bool parse_line(const char *line, int epoll, struct live_epoll *out)
{
	int descriptor;
	unsigned events;
	unsigned long long data;
	if (sscanf(line, "tfd: %d events: %x data: %llx", &descriptor, &events, &data) != 3)
		return false;
	*out = (struct live_epoll){ .epoll = epoll, .descriptor = descriptor,
				    .event = { .events = events, .data.u64 = data } };
	return true;
}

struct lines {
	char text[INFO_BYTES + 1];
	size_t length;
};

static int take_lines(struct lines *lines, int epoll, struct live_epoll *sets, size_t room, size_t *count)
{
	char *at = lines->text, *end;
	lines->text[lines->length] = 0;
	for (; (end = strchr(at, '\n')) != NULL; at = end + 1) {
		struct live_epoll one;
		*end = 0;
		if (!parse_line(at, epoll, &one))
			continue;
		if (*count == room) {
			errno = ENOBUFS;
			return -1;
		}
		sets[(*count)++] = one;
	}
	lines->length = strlen(at);
	memmove(lines->text, at, lines->length);
	return 0;
}

static int read_set(int epoll, struct live_epoll *sets, size_t room, size_t *count)
{
	struct lines lines = { .length = 0 };
	char path[64];
	ssize_t got;
	int result = 0;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", epoll);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (result == 0 && (got = read(fd, lines.text + lines.length, INFO_BYTES - lines.length)) != 0) {
		if (got < 0 && errno != EINTR)
			result = -1;
		if (got > 0) {
			lines.length += (size_t)got;
			result = take_lines(&lines, epoll, sets, room, count);
		}
	}
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

int live_epoll_read(struct live_epoll *sets, size_t room, size_t *count)
{
	_Alignas(struct entry) char names[NAMES_BYTES];
	long got;
	int result = 0, listing = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*count = 0;
	if (listing < 0)
		return -1;
	while (result == 0 && (got = syscall(SYS_getdents64, listing, names, sizeof names)) != 0) {
		if (got < 0)
			result = -1;
		for (long at = 0; result == 0 && at < got;) {
			const struct entry *entry = (const struct entry *)(names + at);
			char *end;
			long fd = strtol(entry->name, &end, 10);
			if (*end == 0 && end != entry->name && is_epoll((int)fd))
				result = read_set((int)fd, sets, room, count);
			at += entry->length;
		}
	}
	int error = errno;
	close(listing);
	errno = error;
	return result;
}

static int apply_one(const struct live_epoll *one)
{
	struct epoll_event event = one->event;
	if (epoll_ctl(one->epoll, EPOLL_CTL_MOD, one->descriptor, &event) == 0)
		return 0;
	if (errno == EINVAL && (event.events & EPOLLEXCLUSIVE) != 0) {
		/* Such a one cannot be modified. */
		if (epoll_ctl(one->epoll, EPOLL_CTL_DEL, one->descriptor, NULL) != 0)
			return -1;
		event.events &= ~(uint32_t)(EPOLLERR | EPOLLHUP);
		return epoll_ctl(one->epoll, EPOLL_CTL_ADD, one->descriptor, &event);
	}
	if (errno == ENOENT) /* replaced */
		return epoll_ctl(one->epoll, EPOLL_CTL_ADD, one->descriptor, &event);
	/* A number that was closed while its open file lives on elsewhere stays in the set; nothing can be done, or need. */
	return errno == EBADF ? 0 : -1;
}

int live_epoll_apply(const struct live_epoll *sets, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (apply_one(&sets[i]) != 0)
			return -1;
	return 0;
}
