/* Connections that a process leaves behind when it ends: gone after, and nobody else's. */
#include "restore/orphans.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/check.h"

struct connection {
	int near, far;
	struct sockaddr_in local, remote;
};

/* A network of its own, in which only the loopback is. -1: not allowed here. */
static int own_network(void)
{
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	if (unshare(CLONE_NEWNET) != 0)
		return -1;
	int any = socket(AF_INET, SOCK_DGRAM, 0);
	int result = ioctl(any, SIOCSIFFLAGS, &loopback);
	close(any);
	return result;
}

static void connected(int listener, struct connection *c)
{
	*c = (struct connection){ .near = socket(AF_INET, SOCK_STREAM, 0) };
	socklen_t length = sizeof c->remote;
	CHECK_EQ(getsockname(listener, (struct sockaddr *)&c->remote, &length), 0);
	CHECK_EQ(connect(c->near, (struct sockaddr *)&c->remote, sizeof c->remote), 0);
	c->far = accept(listener, NULL, NULL);
	length = sizeof c->local;
	CHECK_EQ(getsockname(c->near, (struct sockaddr *)&c->local, &length), 0);
}

/* As CRIU does. 0, or why it cannot be. */
static int made_again(const struct connection *c)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1, error = 0;
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
	    bind(fd, (const struct sockaddr *)&c->local, sizeof c->local) != 0 ||
	    connect(fd, (const struct sockaddr *)&c->remote, sizeof c->remote) != 0)
		error = errno;
	close(fd);
	return error;
}

TEST(a_connection_that_nobody_has_open_stands_in_nobodys_way)
{
	if (own_network() != 0) {
		puts("skipped: no network namespaces here");
		return;
	}
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CHECK_EQ(bind(listener, (struct sockaddr *)&any, sizeof any), 0);
	CHECK_EQ(listen(listener, 8), 0);
	struct connection left, kept;
	connected(listener, &left);
	connected(listener, &kept);
	close(left.near);
	CHECK(made_again(&left) != 0);
	CHECK_EQ(orphans_destroy(getpid()), 1);
	CHECK_EQ(made_again(&left), 0);
	CHECK_EQ(orphans_destroy(getpid()), 0);
	char byte = 'x';
	CHECK_EQ(write(kept.near, &byte, 1), 1);
	CHECK_EQ(read(kept.far, &byte, 1), 1);
}

TEST(a_namespace_that_is_gone_is_an_error)
{
	CHECK_EQ(orphans_destroy(0x3fffffff), -1);
	CHECK_EQ(errno, ENOENT);
}

int main(void)
{
	RUN(a_connection_that_nobody_has_open_stands_in_nobodys_way);
	RUN(a_namespace_that_is_gone_is_an_error);
	return check_report();
}
