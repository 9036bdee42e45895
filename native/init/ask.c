#include "init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_WAIT_MS = 15000 }; /* longer than ftinit itself waits for an exec */

static int fail(const char *code, const char *detail)
{
	struct line_writer line;
	line_fail(&line, code, errno, detail);
	fwrite(line.text, 1, line.length, stdout);
	return 1;
}

/* Enters the container's network namespace, where the abstract socket lives; the pid namespace stays ours. */
static int connect_to(long host_pid)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/ns/net", host_pid);
	int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return -1;
	int joined = setns(netns, CLONE_NEWNET);
	close(netns);
	int fd = joined == 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (fd < 0)
		return -1;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, FT_INIT_SOCKET, sizeof(FT_INIT_SOCKET) - 1);
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + sizeof(FT_INIT_SOCKET);
	if (connect(fd, (struct sockaddr *)&address, length) == 0)
		return fd;
	int code = errno;
	close(fd);
	errno = code;
	return -1;
}

/* The kernel says who listens: nobody but the process we were sent to may answer. */
static bool is_listener(int fd, long host_pid)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == host_pid;
}

static bool send_request(int fd, char *const *words)
{
	char line[LINE_BYTES_MAX];
	size_t length = 0;
	for (; *words != NULL; words++) {
		int added = snprintf(line + length, sizeof(line) - length, "%s%s", *words, words[1] ? " " : "\n");
		if (added < 0 || (size_t)added >= sizeof(line) - length) {
			errno = EMSGSIZE;
			return false;
		}
		length += (size_t)added;
	}
	/* EPIPE: it has closed already, but may have said why (`busy`). */
	return send(fd, line, length, MSG_NOSIGNAL) == (ssize_t)length || errno == EPIPE;
}

/* Prints what comes until the reply, or, for a subscriber, until the end of either side. */
static int print_replies(int fd, bool follow)
{
	bool answered = false;
	for (;;) {
		struct pollfd polls[2] = { { .fd = fd, .events = POLLIN }, { .fd = STDOUT_FILENO, .events = 0 } };
		int ready = poll(polls, 2, answered ? -1 : ANSWER_WAIT_MS);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0)
			return fail("io", "poll");
		if (ready == 0) {
			errno = ETIMEDOUT;
			return fail("timeout", "no answer");
		}
		if (polls[1].revents)
			return 1; /* nobody reads us any more */
		char text[LINE_BYTES_MAX];
		ssize_t got = recv(fd, text, sizeof(text), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			if (answered)
				return 0;
			return fail("closed", "the connection was closed");
		}
		if (fwrite(text, 1, (size_t)got, stdout) != (size_t)got || fflush(stdout) != 0)
			return 1;
		if (!answered && strncmp(text, "ok", 2) != 0)
			return 1;
		answered = true;
		if (!follow && text[got - 1] == '\n')
			return 0;
	}
}

int ask_run(const char *host_pid, char *const *words)
{
	char *end;
	long pid = strtol(host_pid, &end, 10);
	if (*end != '\0' || pid < 1 || *words == NULL) {
		fprintf(stderr, "usage: ftinit --ask HOSTPID verb [key=value…]\n");
		return 2;
	}
	int fd = connect_to(pid);
	if (fd < 0)
		return fail("unreachable", "no ftinit there");
	if (!is_listener(fd, pid)) {
		errno = EPERM;
		return fail("foreign", "another process listens there");
	}
	if (!send_request(fd, words))
		return fail("io", "send");
	return print_replies(fd, strcmp(*words, "subscribe") == 0);
}
