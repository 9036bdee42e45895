#include "init/init.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct connection {
	int fd; /* -1: free */
	bool subscribed;
	struct line_reader reader;
};

struct loop {
	struct init init;
	int listener;
	int signals;
	struct connection connections[INIT_CONNECTIONS_MAX];
};

static struct loop loop; /* PID 1 has one, and allocates nothing */

static int die(const char *what)
{
	fprintf(stderr, "ftinit: %s: %s\n", what, strerror(errno));
	return 125; /* what `docker run` uses for a failure that is not the application's */
}

static int open_listener(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, FT_INIT_SOCKET, sizeof(FT_INIT_SOCKET) - 1);
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + sizeof(FT_INIT_SOCKET);
	if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, INIT_CONNECTIONS_MAX) != 0) {
		int code = errno;
		close(fd);
		errno = code;
		return -1;
	}
	return fd;
}

/* Everything but what the kernel raises for a fault of our own, and what job control uses. */
static int open_signals(void)
{
	static const int left_alone[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU };
	sigset_t set;
	sigfillset(&set);
	for (size_t i = 0; i < sizeof(left_alone) / sizeof(left_alone[0]); i++)
		sigdelset(&set, left_alone[i]);
	if (sigprocmask(SIG_SETMASK, &set, NULL) != 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void drop(struct connection *connection)
{
	close(connection->fd);
	connection->fd = -1;
}

/* A peer outside this pid namespace shows as pid 0; one inside, or in a namespace below, has a number. */
static bool is_outside(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == 0;
}

static void accept_one(void)
{
	int fd = accept4(loop.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return; /* gone again, or out of descriptors: the next poll tells */
	if (is_outside(fd)) {
		for (int i = 0; i < INIT_CONNECTIONS_MAX; i++) {
			if (loop.connections[i].fd >= 0)
				continue;
			loop.connections[i] = (struct connection){ .fd = fd };
			return;
		}
		static const char full[] = "fail code=busy errno=0 detail=too%20many%20connections\n";
		(void)!send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL);
	}
	close(fd);
}

static void tell(struct connection *connection, const struct line_writer *line)
{
	/* A peer that does not read its replies is cut off: PID 1 waits for nobody. */
	if (send(connection->fd, line->text, line->length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)line->length)
		drop(connection);
}

static void carry_out(struct connection *connection, char *text, size_t length)
{
	struct line request;
	struct line_writer reply;
	if (line_parse(text, length, &request) != 0)
		line_fail(&reply, "usage", EINVAL, "no line of the protocol");
	else if (init_request(&loop.init, &request, &reply))
		connection->subscribed = true;
	tell(connection, &reply);
}

static void serve(struct connection *connection)
{
	struct line_reader *reader = &connection->reader;
	size_t room = line_reader_space(reader);
	ssize_t got = recv(connection->fd, reader->text + reader->length, room, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		return drop(connection);
	reader->length += (size_t)got;

	char *text;
	size_t length;
	int found = 0;
	while (connection->fd >= 0 && (found = line_reader_next(reader, &text, &length)) > 0)
		carry_out(connection, text, length);
	if (connection->fd >= 0 && found < 0)
		drop(connection); /* no line is that long */
}

/* Returns the exit code to end with, or -1. */
static int read_signals(void)
{
	struct signalfd_siginfo info;
	int ending = -1;
	while (read(loop.signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		int signal = (int)info.ssi_signo;
		if (signal == SIGCHLD || signal == SIGPIPE)
			continue;
		int code = init_signal(&loop.init, signal);
		if (code >= 0)
			ending = code;
	}
	init_reap(&loop.init);
	return ending;
}

static void announce_exit(void)
{
	struct line_writer event;
	init_event_exited(&loop.init, &event);
	for (int i = 0; i < INIT_CONNECTIONS_MAX; i++)
		if (loop.connections[i].fd >= 0 && loop.connections[i].subscribed)
			tell(&loop.connections[i], &event);
}

static int turn(void)
{
	struct pollfd polls[2 + INIT_CONNECTIONS_MAX] = {
		{ .fd = loop.signals, .events = POLLIN },
		{ .fd = loop.listener, .events = POLLIN },
	};
	for (int i = 0; i < INIT_CONNECTIONS_MAX; i++)
		polls[2 + i] = (struct pollfd){ .fd = loop.connections[i].fd, .events = POLLIN };
	if (poll(polls, 2 + INIT_CONNECTIONS_MAX, -1) < 0)
		return errno == EINTR ? -1 : die("poll");

	int ending = polls[0].revents ? read_signals() : -1;
	for (int i = 0; i < INIT_CONNECTIONS_MAX; i++)
		if (polls[2 + i].revents && loop.connections[i].fd >= 0)
			serve(&loop.connections[i]);
	if (polls[1].revents)
		accept_one();
	if (loop.init.state == INIT_EXITED) {
		announce_exit();
		return init_exit_code(loop.init.wait_status);
	}
	return ending;
}

int init_run(char *const *command, bool record)
{
	if (getpid() != 1) {
		fprintf(stderr, "ftinit: runs only as the first process of a container\n");
		return 125;
	}
	loop.init.command = command;
	loop.init.record = record;
	for (int i = 0; i < INIT_CONNECTIONS_MAX; i++)
		loop.connections[i].fd = -1;
	if ((loop.signals = open_signals()) < 0)
		return die("signals");
	if ((loop.listener = open_listener()) < 0)
		return die("control socket");
	int ending;
	while ((ending = turn()) < 0)
		;
	return ending;
}
