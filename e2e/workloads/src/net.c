#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, BACKLOG = 512 };

struct worker {
	unsigned number;
	int epoll;
	int arrivals; /* an eventfd: there is something in the inbox */
	answer_fn answer;
	pthread_mutex_t lock; /* of what follows */
	struct connection *inbox;
	size_t connections;
};

struct server {
	int listener;
	unsigned threads; /* 0: the thread that accepts is the one worker */
	unsigned next;    /* whose turn it is to be given a connection */
	struct worker workers[THREADS_MAX];
};

void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

size_t reply_text(char *reply, size_t reply_bytes_max, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(reply, reply_bytes_max, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= reply_bytes_max) die("a reply that does not fit");
	return (size_t)length;
}

uint16_t port_argument(int argc, char **argv)
{
	char *end = NULL;
	unsigned long port = argc > 1 ? strtoul(argv[1], &end, 10) : 0;
	if (port == 0 || port > 65535 || *end != '\0') {
		fprintf(stderr, "usage: %s PORT\n", argv[0]);
		exit(2);
	}
	return (uint16_t)port;
}

static void on_terminate(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

/* As process 1 of a container a program gets no default action for signals. */
static void set_signals(void)
{
	struct sigaction terminate = {.sa_handler = on_terminate};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	if (sigaction(SIGTERM, &terminate, NULL) < 0 || sigaction(SIGINT, &terminate, NULL) < 0 ||
	    sigaction(SIGPIPE, &ignore, NULL) < 0)
		die("sigaction");
}

static int listen_on(uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) die("socket");
	int on = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) die("SO_REUSEADDR");
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
	if (listen(fd, BACKLOG) < 0) die("listen");
	return fd;
}

static void watch(struct worker *worker, struct connection *connection, int operation)
{
	/* Reading stops while replies wait: a client that does not read cannot make us hold more. */
	struct epoll_event event = {
		.events = connection->output_bytes > 0 ? EPOLLOUT : EPOLLIN,
		.data.ptr = connection,
	};
	if (epoll_ctl(worker->epoll, operation, connection->fd, &event) < 0) die("epoll_ctl");
}

static void lock(struct worker *worker)
{
	if ((errno = pthread_mutex_lock(&worker->lock)) != 0) die("pthread_mutex_lock");
}

static void unlock(struct worker *worker)
{
	if ((errno = pthread_mutex_unlock(&worker->lock)) != 0) die("pthread_mutex_unlock");
}

/* Gives a connection to its worker; false if that has too many. */
static int hand_over(struct server *server, struct worker *worker, struct connection *connection)
{
	lock(worker);
	int taken = worker->connections < CONNECTIONS_MAX;
	if (taken) {
		worker->connections++;
		connection->next = worker->inbox;
		if (server->threads > 0) worker->inbox = connection;
	}
	unlock(worker);
	if (!taken) return 0;
	if (server->threads == 0)
		watch(worker, connection, EPOLL_CTL_ADD);
	else if (eventfd_write(worker->arrivals, 1) < 0)
		die("eventfd_write");
	return 1;
}

static void accept_one(struct server *server)
{
	int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
		die("accept4");
	}
	int on = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) die("TCP_NODELAY");
	struct connection *connection = calloc(1, sizeof *connection);
	if (connection == NULL) die("calloc");
	struct worker *worker = &server->workers[server->threads == 0 ? 0 : server->next++ % server->threads];
	connection->fd = fd;
	connection->worker = worker->number;
	if (hand_over(server, worker, connection)) return;
	close(fd);
	free(connection);
}

static void take_arrivals(struct worker *worker)
{
	eventfd_t count;
	if (eventfd_read(worker->arrivals, &count) < 0 && errno != EAGAIN) die("eventfd_read");
	lock(worker);
	struct connection *connection = worker->inbox;
	worker->inbox = NULL;
	unlock(worker);
	while (connection != NULL) {
		struct connection *next = connection->next;
		watch(worker, connection, EPOLL_CTL_ADD);
		connection = next;
	}
}

static void drop(struct worker *worker, struct connection *connection)
{
	close(connection->fd);
	free(connection);
	lock(worker);
	worker->connections--;
	unlock(worker);
}

/* Sends what waits; false if the connection is lost. */
static int flush(struct connection *connection)
{
	size_t sent_bytes = 0;
	while (sent_bytes < connection->output_bytes) {
		ssize_t n = send(connection->fd, connection->output + sent_bytes,
				 connection->output_bytes - sent_bytes, MSG_NOSIGNAL);
		if (n > 0) {
			sent_bytes += (size_t)n;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else if (n < 0 && errno == EAGAIN) {
			break;
		} else {
			return 0;
		}
	}
	connection->output_bytes -= sent_bytes;
	memmove(connection->output, connection->output + sent_bytes, connection->output_bytes);
	return 1;
}

/* Answers every whole line there is room to answer; false if a line is too long. */
static int answer_lines(struct worker *worker, struct connection *connection)
{
	size_t at = 0;
	while (connection->output_bytes + LINE_BYTES_MAX + 1 <= OUTPUT_BYTES_MAX) {
		char *line = connection->input + at;
		char *newline = memchr(line, '\n', connection->input_bytes - at);
		if (newline == NULL) break;
		*newline = '\0';
		char *reply = connection->output + connection->output_bytes;
		size_t reply_bytes = worker->answer(connection, line, reply, LINE_BYTES_MAX);
		reply[reply_bytes] = '\n';
		connection->output_bytes += reply_bytes + 1;
		at += (size_t)(newline - line) + 1;
	}
	connection->input_bytes -= at;
	memmove(connection->input, connection->input + at, connection->input_bytes);
	return connection->input_bytes < LINE_BYTES_MAX ||
	       memchr(connection->input, '\n', connection->input_bytes) != NULL;
}

/* Reads what is there; false at the end of the connection. */
static int fill(struct connection *connection)
{
	size_t room_bytes = INPUT_BYTES_MAX - connection->input_bytes;
	if (room_bytes == 0) return 1;
	ssize_t n = recv(connection->fd, connection->input + connection->input_bytes, room_bytes, 0);
	if (n > 0) connection->input_bytes += (size_t)n;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void handle(struct worker *worker, struct connection *connection, uint32_t events)
{
	int open = 1;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) open = fill(connection);
	if (open) open = flush(connection);
	/* Lines left over from a time when replies waited come first in line again. */
	while (open && connection->output_bytes == 0) {
		size_t before_bytes = connection->input_bytes;
		open = answer_lines(worker, connection) && flush(connection);
		if (connection->input_bytes == before_bytes) break;
	}
	if (open)
		watch(worker, connection, EPOLL_CTL_MOD);
	else
		drop(worker, connection);
}

/* Waits for events of one epoll set and returns their number. */
static int wait_for(int epoll, struct epoll_event *events)
{
	int n = epoll_wait(epoll, events, EVENTS_MAX, -1);
	if (n < 0 && errno != EINTR) die("epoll_wait");
	return n < 0 ? 0 : n;
}

static void add_plain(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct epoll_event events[EVENTS_MAX];
	for (;;) {
		int n = wait_for(worker->epoll, events);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				take_arrivals(worker);
			else
				handle(worker, events[i].data.ptr, events[i].events);
		}
	}
	return NULL;
}

static void prepare(struct worker *worker, unsigned number, answer_fn answer)
{
	worker->number = number;
	worker->answer = answer;
	if ((errno = pthread_mutex_init(&worker->lock, NULL)) != 0) die("pthread_mutex_init");
	worker->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (worker->epoll < 0) die("epoll_create1");
}

void start_thread(void *(*run)(void *), void *argument)
{
	pthread_t thread;
	if ((errno = pthread_create(&thread, NULL, run, argument)) != 0) die("pthread_create");
	if ((errno = pthread_detach(thread)) != 0) die("pthread_detach");
}

void serve(uint16_t port, answer_fn answer)
{
	static struct server server;
	set_signals();
	server.listener = listen_on(port);
	struct worker *worker = &server.workers[0];
	prepare(worker, 0, answer);
	add_plain(worker->epoll, server.listener);
	struct epoll_event events[EVENTS_MAX];
	for (;;) {
		int n = wait_for(worker->epoll, events);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_one(&server);
			else
				handle(worker, events[i].data.ptr, events[i].events);
		}
	}
}

void serve_threads(uint16_t port, unsigned threads, answer_fn answer)
{
	static struct server server;
	if (threads == 0 || threads > THREADS_MAX) die("number of threads");
	set_signals();
	server.threads = threads;
	for (unsigned i = 0; i < threads; i++) {
		struct worker *worker = &server.workers[i];
		prepare(worker, i, answer);
		worker->arrivals = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (worker->arrivals < 0) die("eventfd");
		add_plain(worker->epoll, worker->arrivals);
		start_thread(work, worker);
	}
	server.listener = listen_on(port);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0) die("epoll_create1");
	add_plain(epoll, server.listener);
	struct epoll_event events[EVENTS_MAX];
	for (;;)
		if (wait_for(epoll, events) > 0) accept_one(&server);
}
