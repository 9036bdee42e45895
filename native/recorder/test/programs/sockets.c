/*
 * A server on TCP and UDP and its clients, in one process. Served by epoll, poll or select (by argv[3]). Connections that
 * are cut (as when a replay goes live without their peers) are made anew; what comes back must be what was sent.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "program.h"

enum { CLIENTS = 3, PEERS = 32, CUT_AFTER = 40 };
static int listener, port, udp, epoll;
static char how = 'e';
static int peers[PEERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool over;
static uint64_t echoed;

static bool is_over(void)
{
	pthread_mutex_lock(&lock);
	bool answer = over;
	pthread_mutex_unlock(&lock);
	return answer;
}

static int answer(int fd)
{
	char bytes[512];
	struct iovec parts[2] = {{bytes, 100}, {bytes + 100, sizeof bytes - 100}};
	ssize_t got = readv(fd, parts, 2);
	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	struct iovec out[2] = {{bytes, (size_t)got / 2}, {bytes + got / 2, (size_t)(got - got / 2)}};
	struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
	ssize_t sent = got % 2 == 0 ? sendmsg(fd, &message, MSG_NOSIGNAL) : send(fd, bytes, (size_t)got, MSG_NOSIGNAL);
	return sent == got ? 0 : -1;
}

static void answer_datagram(void)
{
	char bytes[256];
	struct sockaddr_in from;
	socklen_t length = sizeof from;
	ssize_t got = recvfrom(udp, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
	if (got > 0)
		sendto(udp, bytes, (size_t)got, 0, (struct sockaddr *)&from, length);
}

static void watch(int fd, uint64_t data)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = data};
	MUST(how != 'e' || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0);
}

static void take_client(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	for (int i = 0; fd >= 0 && i < PEERS; i++)
		if (peers[i] < 0) {
			peers[i] = fd;
			watch(fd, 100 + (uint64_t)i);
			return;
		}
	if (fd >= 0)
		close(fd);
}

static void serve_ready(uint64_t which)
{
	if (which == 1)
		take_client();
	else if (which == 2)
		answer_datagram();
	else if (which >= 100 && peers[which - 100] >= 0 && answer(peers[which - 100]) != 0) {
		close(peers[which - 100]);
		peers[which - 100] = -1;
	}
}

static void wait_epoll(void)
{
	struct epoll_event ready[8];
	int count = epoll_wait(epoll, ready, 8, 20);
	for (int i = 0; i < count; i++)
		serve_ready(ready[i].data.u64);
}

static void wait_poll(void)
{
	struct pollfd fds[2 + PEERS] = {{listener, POLLIN, 0}, {udp, POLLIN, 0}};
	uint64_t which[2 + PEERS] = {1, 2};
	nfds_t count = 2;
	for (int i = 0; i < PEERS; i++)
		if (peers[i] >= 0) {
			which[count] = 100 + (uint64_t)i;
			fds[count++] = (struct pollfd){peers[i], POLLIN, 0};
		}
	if (poll(fds, count, 20) > 0)
		for (nfds_t i = 0; i < count; i++)
			if (fds[i].revents != 0)
				serve_ready(which[i]);
}

static void wait_select(void)
{
	fd_set set;
	struct timeval soon = {0, 20000};
	int highest = listener > udp ? listener : udp;
	FD_ZERO(&set);
	FD_SET(listener, &set);
	FD_SET(udp, &set);
	for (int i = 0; i < PEERS; i++)
		if (peers[i] >= 0) {
			FD_SET(peers[i], &set);
			highest = peers[i] > highest ? peers[i] : highest;
		}
	if (select(highest + 1, &set, NULL, NULL, &soon) <= 0)
		return;
	if (FD_ISSET(listener, &set))
		serve_ready(1);
	if (FD_ISSET(udp, &set))
		serve_ready(2);
	for (int i = 0; i < PEERS; i++)
		if (peers[i] >= 0 && FD_ISSET(peers[i], &set))
			serve_ready(100 + (uint64_t)i);
}

static void *serve(void *unused)
{
	(void)unused;
	watch(listener, 1);
	watch(udp, 2);
	while (!is_over())
		how == 'e' ? wait_epoll() : how == 'p' ? wait_poll() : wait_select();
	return NULL;
}

static int dial(int type)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, type, 0);
	struct timeval patience = {0, 300000};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void *ask(void *argument)
{
	uint64_t id = (uint64_t)argument, seed = id + 1, hash = 0;
	int fd = -1;
	for (int n = 1; going_on(); n++) {
		char bytes[256], back[256];
		if (fd < 0 && (fd = dial(id == 0 ? SOCK_DGRAM : SOCK_STREAM)) < 0) {
			nap(1000);
			continue;
		}
		seed = mix(seed, 5);
		size_t length = 20 + seed % 200, have = 0;
		memset(bytes, (int)(seed % 250), length);
		ssize_t got = send(fd, bytes, length, MSG_NOSIGNAL);
		while (got > 0 && have < length && (got = recv(fd, back + have, length - have, 0)) > 0)
			have += (size_t)got;
		if (have == length) {
			MUST(memcmp(bytes, back, length) == 0);
			hash = mix(hash, seed);
			pthread_mutex_lock(&lock);
			echoed++;
			pthread_mutex_unlock(&lock);
			if (n % 50 == 0)
				say("echo", hash);
		}
		if (have != length || n % CUT_AFTER == 0) {
			close(fd);
			fd = -1;
		}
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t server, clients[CLIENTS];
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof any;
	int one = 1;
	begin(argc, argv);
	if (argc > 3)
		how = argv[3][0];
	memset(peers, -1, sizeof peers);
	MUST((listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0 && (udp = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	MUST(bind(listener, (struct sockaddr *)&any, length) == 0);
	MUST(getsockname(listener, (struct sockaddr *)&any, &length) == 0);
	port = ntohs(any.sin_port);
	MUST(bind(udp, (struct sockaddr *)&any, length) == 0 && listen(listener, 64) == 0);
	MUST((epoll = epoll_create1(0)) >= 0);
	MUST(pthread_create(&server, NULL, serve, NULL) == 0);
	for (uint64_t i = 0; i < CLIENTS; i++)
		MUST(pthread_create(&clients[i], NULL, ask, (void *)i) == 0);
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(clients[i], NULL);
	pthread_mutex_lock(&lock);
	over = true;
	pthread_mutex_unlock(&lock);
	pthread_join(server, NULL);
	MUST(echoed > 0);
	return finish();
}
