#include "dump/target.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dump/clock.h"
#include "dump/tree.h"
#include "line/line.h"

enum { INIT_US_MAX = 2000000 };

int target_ask(int fd, const char *request, char *reply, size_t size)
{
	size_t length = strlen(request), have = 0;
	uint64_t deadline = clock_us() + INIT_US_MAX;
	if (send(fd, request, length, MSG_NOSIGNAL) != (ssize_t)length)
		return -1;
	while (have + 1 < size) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		int count = poll(&ready, 1, clock_left_ms(deadline));
		if (count < 0 && errno == EINTR)
			continue;
		if (count == 0)
			errno = ETIMEDOUT;
		if (count <= 0)
			return -1;
		ssize_t got = recv(fd, reply + have, size - 1 - have, 0);
		if (got == 0)
			errno = ECONNRESET;
		if (got <= 0)
			return -1;
		have += (size_t)got;
		reply[have] = 0;
		char *newline = strchr(reply, '\n');
		if (newline != NULL) {
			*newline = 0;
			return 0;
		}
	}
	errno = EMSGSIZE;
	return -1;
}

/* The reply to `status`: the application's pid, or -1 with ESRCH when none runs. */
static pid_t pid_of_status(char *reply)
{
	struct line line;
	uint64_t pid;
	errno = EPROTO;
	if (line_parse(reply, strlen(reply), &line) != 0 || strcmp(line.verb, "ok") != 0)
		return -1;
	const char *state = line_get(&line, "state");
	if (state == NULL || line_get_u64(&line, "pid", &pid) != 0)
		return -1;
	errno = ESRCH;
	return strcmp(state, "running") == 0 && pid > 1 && pid < 1u << 30 ? (pid_t)pid : -1;
}

int target_find(const struct enter_container *container, pid_t *inside, pid_t *host, char *detail, size_t size)
{
	char reply[LINE_BYTES_MAX];
	const char *what = "ftinit does not listen";
	int fd = enter_connect_init(container);
	*inside = -1;
	if (fd >= 0) {
		what = "ftinit does not answer";
		if (target_ask(fd, "status\n", reply, sizeof reply) == 0) {
			what = "the application is not running";
			*inside = pid_of_status(reply);
		}
		int error = errno;
		close(fd);
		errno = error;
	}
	if (*inside > 0) {
		what = "the application's process is not found";
		*host = tree_child_called(container->init_pid, *inside);
		if (*host > 0)
			return 0;
	}
	int error = errno;
	*host = 0;
	snprintf(detail, size, "%s: %s", what, strerror(error));
	errno = error;
	return -1;
}
