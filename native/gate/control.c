/*
 * Invariants: a connection gets exactly one reply a request, in order; one that does not read is cut off before
 * it can make the gate wait; when the connection that marked an epoch ends, the container's input flows again.
 */
#include "gate/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "gate/gate.h"
#include "gate/invariant.h"
#include "gate/wakeup.h"

static int lock(const char *path)
{
	char name[PATH_BYTES_MAX + 8];
	snprintf(name, sizeof name, "%s.lock", path);
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		close(fd);
		errno = EADDRINUSE;
		return -1;
	}
	return fd;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	INVARIANT(strlen(path) < sizeof address.sun_path);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	/* Under the lock nobody else listens there: a socket that is left is a dead gate's. */
	mode_t mask = umask(0177);
	int result = unlink(path) != 0 && errno != ENOENT ? -1 : 0;
	if (result == 0)
		result = bind(fd, (struct sockaddr *)&address, sizeof address);
	umask(mask);
	if (result == 0)
		result = listen(fd, CONTROL_CONNECTIONS_MAX);
	if (result != 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int control_open(struct control *control, const char *path, int epoll_fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = wakeup_data(WAKE_LISTEN, 0)};
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		control->connection[i].fd = -1;
	control->next_id = 1;
	control->epoll_fd = epoll_fd;
	control->lock_fd = lock(path);
	if (control->lock_fd < 0)
		return -1;
	control->listen_fd = listen_at(path);
	if (control->listen_fd < 0)
		return -1;
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, control->listen_fd, &event);
}

void control_close(struct control *control, const char *path)
{
	char name[PATH_BYTES_MAX + 8];
	snprintf(name, sizeof name, "%s.lock", path);
	close(control->listen_fd);
	unlink(path);
	unlink(name);
	close(control->lock_fd);
	/* Last: who asked for the end takes the end of the connection for it, and may start the next gate at once. */
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connection[i].fd >= 0)
			close(control->connection[i].fd);
}

static bool is_trusted(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

void control_accept(struct control *control)
{
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return; /* it went away again, or we are short of descriptors: the next turn tries again */
	unsigned slot = 0;
	while (slot < CONTROL_CONNECTIONS_MAX && control->connection[slot].fd >= 0)
		slot++;
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = wakeup_data(WAKE_CONNECTION, slot)};
	if (slot == CONTROL_CONNECTIONS_MAX || !is_trusted(fd) ||
	    epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		close(fd);
		return;
	}
	struct connection *connection = &control->connection[slot];
	connection->fd = fd;
	connection->id = control->next_id++;
	connection->subscribed = connection->ended = false;
	connection->in.length = connection->in.start = 0;
	connection->out_length = 0;
}

struct connection *control_find(struct control *control, uint64_t id)
{
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connection[i].fd >= 0 && control->connection[i].id == id)
			return &control->connection[i];
	return NULL;
}

static void wait_for(struct control *control, struct connection *connection, uint32_t events)
{
	unsigned slot = (unsigned)(connection - control->connection);
	struct epoll_event event = {.events = events, .data.u64 = wakeup_data(WAKE_CONNECTION, slot)};
	if (epoll_ctl(control->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) != 0)
		connection->ended = true;
}

static void flush(struct control *control, struct connection *connection)
{
	size_t sent = 0;
	bool waited = connection->out_length > 0;
	while (sent < connection->out_length) {
		ssize_t n = send(connection->fd, connection->out + sent, connection->out_length - sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			connection->ended = true;
			return;
		}
		sent += (size_t)n;
	}
	memmove(connection->out, connection->out + sent, connection->out_length - sent);
	connection->out_length -= sent;
	if (waited)
		wait_for(control, connection, connection->out_length > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void control_send(struct control *control, struct connection *connection, const struct line_writer *line)
{
	if (connection->fd < 0 || connection->ended)
		return;
	size_t sent = 0;
	if (connection->out_length == 0) {
		ssize_t n = send(connection->fd, line->text, line->length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			connection->ended = true;
			return;
		}
		sent = n < 0 ? 0 : (size_t)n;
		if (sent == line->length)
			return;
		wait_for(control, connection, EPOLLIN | EPOLLOUT);
	}
	if (connection->out_length + line->length - sent > sizeof connection->out) {
		fprintf(stderr, "a control connection does not read; cut off\n");
		connection->ended = true;
		return;
	}
	memcpy(connection->out + connection->out_length, line->text + sent, line->length - sent);
	connection->out_length += line->length - sent;
}

void control_broadcast(struct control *control, const struct line_writer *line)
{
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connection[i].fd >= 0 && control->connection[i].subscribed)
			control_send(control, &control->connection[i], line);
}

static void handle(struct gate *gate, struct connection *connection, char *text, size_t length)
{
	struct line line;
	struct line_writer reply;
	bool subscribed = connection->subscribed;
	if (line_parse(text, length, &line) != 0)
		line_fail(&reply, "usage", 0, "not a line of the protocol");
	else
		verb_run(gate, connection->id, &line, &reply);
	INVARIANT(reply.length > 0 && reply.text[reply.length - 1] == '\n');
	control_send(&gate->control, connection, &reply);
	if (!subscribed && connection->subscribed)
		event_snapshot(gate, connection->id);
}

static void receive(struct gate *gate, struct connection *connection)
{
	size_t space = line_reader_space(&connection->in);
	ssize_t n = recv(connection->fd, connection->in.text + connection->in.length, space, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		connection->ended = true;
		return;
	}
	connection->in.length += (size_t)n;
	char *text;
	size_t length;
	int got = 0;
	while (!connection->ended && (got = line_reader_next(&connection->in, &text, &length)) == 1)
		handle(gate, connection, text, length);
	if (got < 0)
		connection->ended = true;
}

void control_ready(struct gate *gate, unsigned slot, uint32_t events)
{
	INVARIANT(slot < CONTROL_CONNECTIONS_MAX);
	struct connection *connection = &gate->control.connection[slot];
	if (connection->fd < 0 || connection->ended)
		return;
	if (events & EPOLLOUT)
		flush(&gate->control, connection);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(gate, connection);
}

void control_sweep(struct gate *gate)
{
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
		struct connection *connection = &gate->control.connection[i];
		if (connection->fd < 0 || !connection->ended)
			continue;
		close(connection->fd);
		connection->fd = -1;
		connection->subscribed = false;
		if (gate->marked && gate->marked_by == connection->id) {
			gate_thaw(gate);
			event_plain(gate, "thawed-by-disconnect");
		}
	}
}
