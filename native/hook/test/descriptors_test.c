/* What is asked beside CRIU is what CRIU would have been told: this process is its own target. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hook/descriptors.h"
#include "test/check.h"

enum { QUIET = 100, LOUD = 101, SIX = 102, HERE = 103, LATER = 104 };

static const struct {
	int level, name;
	socklen_t length;
} asked[] = {
	{ SOL_SOCKET, SO_TYPE, 4 },	    { SOL_IP, IP_TOS, 4 },	      { SOL_IP, IP_TTL, 4 },	       { SOL_IP, IP_FREEBIND, 4 },
	{ SOL_SOCKET, SO_PRIORITY, 4 },	    { SOL_SOCKET, SO_RCVLOWAT, 4 },   { SOL_SOCKET, SO_MARK, 4 },      { SOL_SOCKET, SO_SNDTIMEO, 16 },
	{ SOL_SOCKET, SO_RCVTIMEO, 16 },    { SOL_SOCKET, SO_REUSEADDR, 4 },  { SOL_SOCKET, SO_REUSEPORT, 4 }, { SOL_SOCKET, SO_BROADCAST, 4 },
	{ SOL_SOCKET, SO_KEEPALIVE, 4 },    { SOL_SOCKET, SO_OOBINLINE, 4 },  { SOL_SOCKET, SO_LINGER, 8 },    { SOL_SOCKET, SO_BINDTODEVICE, 16 },
	{ SOL_TCP, TCP_NODELAY, 4 },	    { SOL_TCP, TCP_KEEPCNT, 4 },      { SOL_TCP, TCP_KEEPIDLE, 4 },    { SOL_TCP, TCP_KEEPINTVL, 4 },
	{ SOL_IPV6, IPV6_V6ONLY, 4 },	    { SOL_IPV6, IPV6_FREEBIND, 4 },
};
enum { ASKED = sizeof asked / sizeof *asked };

static void set(int fd, int level, int name, const void *value, socklen_t length)
{
	CHECK_EQ(setsockopt(fd, level, name, value, length), 0);
}

static void open_sockets(void)
{
	static const int one = 1, seven = 7, tos = 0x10;
	static const struct linger linger = { 1, 9 };
	static const struct timeval wait = { 3, 500000 };
	CHECK_EQ(dup2(socket(AF_INET, SOCK_STREAM, 0), QUIET), QUIET);
	CHECK_EQ(dup2(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), LOUD), LOUD);
	CHECK_EQ(dup2(socket(AF_INET6, SOCK_STREAM, 0), SIX), SIX);
	CHECK_EQ(dup2(open("/dev/null", O_RDWR), HERE), HERE);
	fcntl(LOUD, F_SETFD, FD_CLOEXEC);
	set(LOUD, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	set(LOUD, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	set(LOUD, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
	set(LOUD, SOL_SOCKET, SO_RCVLOWAT, &seven, sizeof seven);
	set(LOUD, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	set(LOUD, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	set(LOUD, SOL_IP, IP_TOS, &tos, sizeof tos);
	set(LOUD, SOL_TCP, TCP_NODELAY, &one, sizeof one);
	set(LOUD, SOL_TCP, TCP_KEEPCNT, &seven, sizeof seven);
	set(SIX, SOL_IPV6, IPV6_V6ONLY, &one, sizeof one);
}

static void read_all(void)
{
	static const char names[] = "100\0" "101\0" "102\0" "103";
	descriptors_list(names, sizeof names);
	descriptors_ask(0);
}

static int seen(int number)
{
	struct stat found;
	int fd = dup(number);
	if (fstat(fd, &found) != 0)
		abort();
	descriptors_seen(fd, &found);
	return fd;
}

/* How many of `asked` are answered; each answer is the kernel's. */
static size_t count_answered(int fd)
{
	size_t count = 0;
	for (size_t i = 0; i < ASKED; i++) {
		unsigned char told[16] = { 0 }, real[16] = { 0 };
		socklen_t told_length = asked[i].length, real_length = asked[i].length;
		int result = -2, wanted = getsockopt(fd, asked[i].level, asked[i].name, real, &real_length);
		if (!descriptors_option(fd, asked[i].level, asked[i].name, told, &told_length, &result))
			continue;
		count += result == wanted && told_length == real_length && memcmp(told, real, real_length) == 0;
	}
	return count;
}

TEST(nothing_is_answered_before_it_is_read)
{
	int fd = seen(LOUD);
	CHECK_EQ(count_answered(fd), 0);
	CHECK_EQ(descriptors_sockets(NULL, 0), -1);
	CHECK(!descriptors_whole());
	close(fd);
}

TEST(options_are_what_the_kernel_says)
{
	uint32_t inode[8];
	/* CRIU has passed a socket before: that is not asked any more. */
	read_all();
	CHECK(descriptors_whole());
	CHECK_EQ(descriptors_sockets(inode, 8), 3);
	CHECK_EQ(descriptors_sockets(inode, 2), -1);
	int quiet = seen(QUIET), loud = seen(LOUD), six = seen(SIX), file = seen(HERE);
	CHECK_EQ(count_answered(quiet), 0);
	CHECK_EQ(count_answered(loud), ASKED - 2);
	CHECK_EQ(count_answered(six), ASKED - 3);
	CHECK_EQ(count_answered(file), 0);
	close(quiet);
	close(six);
	close(file);
	int value, result;
	socklen_t short_length = 2, length = sizeof value;
	CHECK(!descriptors_option(loud, SOL_SOCKET, SO_TYPE, &value, &short_length, &result));
	CHECK(!descriptors_option(loud, SOL_SOCKET, SO_RCVBUF, &value, &length, &result));
	CHECK(!descriptors_option(loud, SOL_TCP, TCP_INFO, &value, &length, &result));
	descriptors_closed(loud);
	CHECK_EQ(count_answered(loud), 0);
	close(loud);
}

TEST(one_that_came_later_is_not_known)
{
	CHECK_EQ(dup2(socket(AF_INET, SOCK_STREAM, 0), LATER), LATER);
	int fd = seen(LATER);
	CHECK_EQ(count_answered(fd), 0);
	close(fd);
}

TEST(what_proc_tells_of_a_socket_is_told_once_more)
{
	char told[256], real[256];
	int self = open("/proc/self", O_PATH | O_DIRECTORY), init = open("/proc/1", O_PATH | O_DIRECTORY);
	CHECK_EQ(descriptors_open(init, "fdinfo/101", O_RDONLY), -1);
	CHECK_EQ(descriptors_open(self, "fdinfo/103", O_RDONLY), -1);
	CHECK_EQ(descriptors_open(self, "fdinfo/104", O_RDONLY), -1);
	CHECK_EQ(descriptors_open(self, "fdinfo/101x", O_RDONLY), -1);
	CHECK_EQ(descriptors_open(self, "fdinfo/", O_RDONLY), -1);
	int fd = descriptors_open(self, "fdinfo/101", O_RDONLY), file = openat(self, "fdinfo/101", O_RDONLY);
	ssize_t first = -1, second = -1, end = -1, length = read(file, real, sizeof real);
	CHECK(fd >= 0 && length > 10);
	CHECK(descriptors_text(fd, told, 10, &first) && descriptors_text(fd, told + 10, sizeof told - 10, &second));
	CHECK(descriptors_text(fd, told, 1, &end));
	CHECK_EQ(first, 10);
	CHECK_EQ(first + second, length);
	CHECK_EQ(end, 0);
	CHECK_EQ(memcmp(told, real, (size_t)length), 0);
	CHECK_EQ(read(fd, told, 1), -1);
	descriptors_closed(fd);
	CHECK(!descriptors_text(fd, told, 1, &end));
	close(fd);
	close(file);
	close(self);
	close(init);
}

int main(void)
{
	open_sockets();
	if (!descriptors_prepare(getpid()))
		return 1;
	RUN(nothing_is_answered_before_it_is_read);
	RUN(options_are_what_the_kernel_says);
	RUN(one_that_came_later_is_not_known);
	RUN(what_proc_tells_of_a_socket_is_told_once_more);
	return check_report();
}
