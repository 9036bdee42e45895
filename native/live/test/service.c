#include "live/test/service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 32768, ECHO_AHEAD_BYTES = 128 << 10, CLIENT_LIMIT_MS = 25000, CLIENT_LINGERS_MS = 1000 };

uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint8_t byte_at(uint16_t port, uint64_t position)
{
	return (uint8_t)((position + port) * 2654435761u >> 13 ^ position >> 16 ^ port);
}

static uint8_t input_at(char kind, uint16_t port, uint64_t position)
{
	return position == 0 ? (uint8_t)kind : byte_at(port, position);
}

void served_output(const struct served *one, uint64_t from, void *room, size_t bytes)
{
	uint8_t *out = room;
	for (size_t i = 0; i < bytes; i++)
		out[i] = one->kind == SERVED_ECHO ? input_at(one->kind, one->port, from + i) ^ 0x5a :
						    byte_at((uint16_t)~one->port, from + i);
}

/* ---- the service ---- */

struct service {
	struct stage *stage;
	int listener, epoll, *fds;
	bool edge, accepting, readable[SERVED_MAX], writable[SERVED_MAX];
	unsigned seed;
	struct live *live;
};

int service_watch(int epoll, int fd, uint32_t number, bool edge)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = number };
	if (number != LISTENER_NUMBER)
		event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (edge ? EPOLLET : 0u);
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void bad(struct stage *stage, const char *what, int number)
{
	if (atomic_exchange(&stage->server_bad, 1) == 0)
		snprintf(stage->server_why, sizeof stage->server_why, "connection %d: %s: %s", number, what, strerror(errno));
}

/* A checkpoint or the host's death comes here: between two operations, whatever the network is doing. */
static void stand_still(struct service *self)
{
	while (atomic_load(&self->stage->stop)) {
		atomic_store(&self->stage->stopped, 1);
		usleep(100);
	}
	atomic_store(&self->stage->stopped, 0);
}

static void take_connection(struct service *self)
{
	struct sockaddr_in from;
	socklen_t length = sizeof from;
	int fd = accept4(self->listener, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (self->live != NULL && live_accepted(self->live, fd, &from) < 0) {
		close(fd);
		return;
	}
	uint32_t number = self->stage->served_count;
	self->stage->served[number] = (struct served){ .used = true, .port = ntohs(from.sin_port), .address = from.sin_addr };
	self->fds[number] = fd;
	self->stage->served_count = number + 1;
	if (service_watch(self->epoll, fd, number, self->edge) != 0)
		bad(self->stage, "epoll", (int)number);
}

static bool read_some(struct service *self, struct served *one, uint32_t number)
{
	uint8_t buffer[BUFFER_BYTES];
	uint64_t at = one->read;
	ssize_t got = recv(self->fds[number], buffer, 1 + (size_t)rand_r(&self->seed) % sizeof buffer, MSG_DONTWAIT);
	if (got < 0) {
		self->readable[number] = false;
		if (errno != EAGAIN)
			bad(self->stage, "recv", (int)number);
		return false;
	}
	if (got == 0) {
		one->eof = true;
		return true;
	}
	if (at == 0)
		one->kind = (char)buffer[0];
	for (ssize_t i = 0; i < got; i++) {
		if (buffer[i] != input_at(one->kind, one->port, at + (uint64_t)i)) {
			errno = EILSEQ;
			bad(self->stage, "another byte came in", (int)number);
			return false;
		}
	}
	one->read += (uint64_t)got;
	return true;
}

static bool write_some(struct service *self, struct served *one, uint32_t number, uint64_t want)
{
	uint8_t buffer[BUFFER_BYTES];
	size_t bytes = 1 + (size_t)rand_r(&self->seed) % sizeof buffer;
	if (bytes > want - one->written)
		bytes = (size_t)(want - one->written);
	served_output(one, one->written, buffer, bytes);
	ssize_t sent = send(self->fds[number], buffer, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0) {
		self->writable[number] = false;
		if (errno != EAGAIN)
			bad(self->stage, "send", (int)number);
		return false;
	}
	one->written += (uint64_t)sent;
	return true;
}

static bool serve_one(struct service *self, uint32_t number)
{
	struct served *one = &self->stage->served[number];
	bool moved = false;
	if (!one->used || one->closed)
		return false;
	stand_still(self);
	if (self->readable[number] && !one->eof &&
	    (one->kind == SERVED_PUSH || one->read - one->written < ECHO_AHEAD_BYTES))
		moved |= read_some(self, one, number);
	stand_still(self);
	uint64_t want = one->read == 0 ? 0 : one->kind == SERVED_ECHO ? one->read : PUSH_BYTES;
	if (self->writable[number] && one->written < want)
		moved |= write_some(self, one, number, want);
	stand_still(self);
	if (one->kind == SERVED_PUSH && one->written == want && want > 0 && !one->shut) {
		one->shut = true;
		if (shutdown(self->fds[number], SHUT_WR) != 0)
			bad(self->stage, "shutdown", (int)number);
		moved = true;
	} else if (one->eof && one->written == want) {
		one->closed = true;
		close(self->fds[number]);
		self->fds[number] = -1;
	}
	return moved;
}

static void wait_events(struct service *self, int timeout_ms)
{
	struct epoll_event events[SERVED_MAX];
	int count = epoll_wait(self->epoll, events, SERVED_MAX, timeout_ms);
	for (int i = 0; i < count; i++) {
		uint32_t number = events[i].data.u32;
		if (number == LISTENER_NUMBER) {
			if (self->accepting)
				take_connection(self);
			continue;
		}
		if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			self->readable[number] = true;
		if (events[i].events & EPOLLOUT)
			self->writable[number] = true;
	}
}

void service_run(struct stage *stage, int listener, int *fds, int epoll, bool edge, unsigned seed, struct live *live)
{
	struct service self = { .stage = stage, .listener = listener, .epoll = epoll, .fds = fds, .edge = edge,
				.accepting = true, .seed = seed, .live = live };
	for (;;) {
		bool moved = false;
		stand_still(&self);
		if (self.accepting && atomic_load(&stage->accept_off)) {
			self.accepting = false;
			epoll_ctl(epoll, EPOLL_CTL_DEL, listener, NULL);
			atomic_store(&stage->accept_off, 2);
		}
		for (uint32_t i = 0; i < stage->served_count; i++)
			moved |= serve_one(&self, i);
		wait_events(&self, moved ? 0 : 5);
		if (rand_r(&self.seed) % 8 == 0)
			usleep((unsigned)rand_r(&self.seed) % 300); /* a busy application: input piles up */
	}
}

/* ---- the clients ---- */

struct client {
	struct dialled *plan;
	int fd;
	uint16_t port;
	uint64_t sent, got;
	bool shut;
};

static void client_ends(struct client *client, int state, const char *why)
{
	snprintf(client->plan->why, sizeof client->plan->why, "%s at sent=%llu got=%llu: %s", why,
		 (unsigned long long)client->sent, (unsigned long long)client->got, strerror(errno));
	atomic_store(&client->plan->state, state);
	close(client->fd);
	client->fd = -1;
}

static void client_dial(struct client *client, const char *address)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(SERVICE_PORT) };
	socklen_t length = sizeof at;
	inet_pton(AF_INET, address, &at.sin_addr);
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&at, length) != 0 ||
	    getsockname(client->fd, (struct sockaddr *)&at, &length) != 0) {
		client_ends(client, -1, "connect");
		return;
	}
	client->port = client->plan->port = ntohs(at.sin_port);
	fcntl(client->fd, F_SETFL, O_NONBLOCK);
}

static uint64_t expected_bytes(const struct client *client)
{
	return client->plan->kind == SERVED_ECHO ? client->plan->bytes : PUSH_BYTES;
}

static void client_reads(struct client *client, struct stage *stage)
{
	uint8_t buffer[BUFFER_BYTES], wanted[BUFFER_BYTES];
	struct served mirror = { .kind = client->plan->kind, .port = client->port };
	ssize_t got = recv(client->fd, buffer, sizeof buffer, 0);
	if (got < 0) {
		if (errno != EAGAIN)
			client_ends(client, -1, "recv");
		return;
	}
	if (got == 0) {
		errno = 0;
		client_ends(client, client->got == expected_bytes(client) ? 1 : -1, "end");
		return;
	}
	if (atomic_load(&stage->rebuild_ns) != 0 && atomic_load(&client->plan->first_after_ns) == 0)
		atomic_store(&client->plan->first_after_ns, now_ns());
	served_output(&mirror, client->got, wanted, (size_t)got);
	if (client->got + (uint64_t)got > expected_bytes(client) || memcmp(buffer, wanted, (size_t)got) != 0) {
		errno = EILSEQ;
		client_ends(client, -1, "another byte came back");
		return;
	}
	client->got += (uint64_t)got;
	atomic_store(&client->plan->got, client->got);
}

static void client_writes(struct client *client, bool gone_live, unsigned *seed)
{
	uint8_t buffer[BUFFER_BYTES];
	uint64_t limit = client->plan->idle && !gone_live ? 1000 : client->plan->bytes;
	size_t bytes = 1 + (size_t)rand_r(seed) % sizeof buffer;
	if (client->sent < limit) {
		if (bytes > limit - client->sent)
			bytes = (size_t)(limit - client->sent);
		for (size_t i = 0; i < bytes; i++)
			buffer[i] = input_at(client->plan->kind, client->port, client->sent + i);
		ssize_t sent = send(client->fd, buffer, bytes, MSG_NOSIGNAL);
		if (sent > 0)
			client->sent += (uint64_t)sent;
		else if (errno != EAGAIN)
			client_ends(client, -1, "send");
	} else if (client->sent == client->plan->bytes && !client->shut &&
		   (client->plan->early_shut || client->got == expected_bytes(client))) {
		client->shut = true;
		if (shutdown(client->fd, SHUT_WR) != 0)
			client_ends(client, -1, "shutdown");
	}
}

void clients_run(struct stage *stage, int netns, const char *address, unsigned seed)
{
	static struct client clients[SERVED_MAX];
	struct pollfd wait[SERVED_MAX];
	if (setns(netns, CLONE_NEWNET) != 0)
		_exit(1);
	for (uint32_t i = 0; i < stage->dialled_count; i++) {
		clients[i] = (struct client){ .plan = &stage->dialled[i], .fd = -1 };
		if (!stage->dialled[i].late)
			client_dial(&clients[i], address);
	}
	for (uint64_t until = now_ns() + CLIENT_LIMIT_MS * 1000000ull; now_ns() < until;) {
		bool gone_live = atomic_load(&stage->go) && now_ns() > atomic_load(&stage->rebuild_ns) + 50000000;
		for (uint32_t i = 0; i < stage->dialled_count; i++) {
			struct client *client = &clients[i];
			if (client->fd < 0 && client->plan->late && atomic_load(&stage->late) && client->port == 0)
				client_dial(client, address);
			bool blocked = client->plan->slow && !gone_live;
			uint64_t limit = client->plan->idle && !gone_live ? 1000 : client->plan->bytes;
			bool writes = client->sent < limit || (client->sent == client->plan->bytes && !client->shut &&
				(client->plan->early_shut || client->got == expected_bytes(client)));
			wait[i] = (struct pollfd){ .fd = client->fd, .events = (short)((blocked ? 0 : POLLIN) | (writes ? POLLOUT : 0)) };
		}
		poll(wait, stage->dialled_count, 5);
		for (uint32_t i = 0; i < stage->dialled_count; i++) {
			if (clients[i].fd >= 0 && (wait[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0)
				client_reads(&clients[i], stage);
			if (clients[i].fd >= 0 && (wait[i].revents & POLLOUT) != 0)
				client_writes(&clients[i], gone_live, &seed);
		}
	}
	errno = ETIMEDOUT;
	for (uint32_t i = 0; i < stage->dialled_count; i++)
		if (atomic_load(&clients[i].plan->state) == 0)
			atomic_store(&clients[i].plan->state, -1), strcpy(clients[i].plan->why, "not done in time");
	usleep(CLIENT_LINGERS_MS * 1000); /* for a look at the sockets */
	_exit(0);
}
