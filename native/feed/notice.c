#include "feed/notice.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dump/clock.h"

#define NOTICE "ftctl-feed"
enum { TAKEN_ROUNDS = 2000, ROUND_US = 1000 };

static int bound(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, NOTICE, sizeof NOTICE - 1);
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + sizeof NOTICE;
	int result = bind(fd, (struct sockaddr *)&address, length);
	for (int i = 0; result != 0 && errno == EADDRINUSE && i < TAKEN_ROUNDS; i++) {
		usleep(ROUND_US);
		result = bind(fd, (struct sockaddr *)&address, length);
	}
	return result == 0 ? listen(fd, 64) : -1;
}

static int connected(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, NOTICE, sizeof NOTICE - 1);
	return connect(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + sizeof NOTICE);
}

/* A socket made there stays there. */
static int open_there(pid_t init_pid)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)init_pid);
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path, O_RDONLY | O_CLOEXEC), fd = -1;
	if (home >= 0 && there >= 0 && setns(there, CLONE_NEWNET) == 0) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int error = errno;
		if (setns(home, CLONE_NEWNET) != 0)
			abort(); /* nothing may run on in the wrong network */
		errno = error;
	}
	int error = errno;
	if (home >= 0)
		close(home);
	if (there >= 0)
		close(there);
	errno = error;
	return fd;
}

int notice_open(pid_t init_pid)
{
	int fd = open_there(init_pid);
	if (fd < 0 || bound(fd) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

int notice_await(pid_t init_pid, int timeout_ms)
{
	int fd = open_there(init_pid);
	if (fd < 0)
		return -1;
	int result = -1;
	if (connected(fd) != 0) {
		result = errno == ECONNREFUSED ? 0 : -1;
	} else {
		/* Nobody accepts: the connection ends with the listener. */
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		uint64_t deadline = clock_us() + (uint64_t)timeout_ms * 1000;
		int count;
		do
			count = poll(&ready, 1, clock_left_ms(deadline));
		while (count < 0 && errno == EINTR);
		if (count == 0)
			errno = ETIMEDOUT;
		result = count > 0 ? 0 : -1;
	}
	int error = errno;
	close(fd);
	errno = error;
	return result;
}
