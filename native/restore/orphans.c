#include "restore/orphans.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ORPHANS_MAX = 16384, ROUNDS_MAX = 8, ANSWER_BYTES_MAX = 65536, ANSWER_S = 2 };

struct orphan {
	uint8_t family;
	struct inet_diag_sockid id;
};

struct request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 what;
};

static struct orphan orphans[ORPHANS_MAX];
static char answer[ANSWER_BYTES_MAX] __attribute__((aligned(8)));

static int ask(int line, uint16_t type, uint16_t flags, const struct orphan *which)
{
	struct request request = {
		.header = { .nlmsg_len = sizeof request, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags },
		.what = { .sdiag_family = which->family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~(1u << TCP_LISTEN), .id = which->id },
	};
	return send(line, &request, sizeof request, 0) == (ssize_t)sizeof request ? 0 : -1;
}

/* Those that nobody has open: their sockets have no inode. The number of those known then, or -1. */
static int list(int line, uint8_t family, int count)
{
	const struct orphan all = { .family = family };
	if (ask(line, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &all) != 0)
		return -1;
	for (;;) {
		ssize_t got = recv(line, answer, sizeof answer, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		unsigned left = (unsigned)got;
		for (const struct nlmsghdr *one = (const void *)answer; NLMSG_OK(one, left); one = NLMSG_NEXT(one, left)) {
			const struct inet_diag_msg *socket = NLMSG_DATA(one);
			if (one->nlmsg_type == NLMSG_DONE)
				return count;
			if (one->nlmsg_type == NLMSG_ERROR) {
				errno = EPROTO;
				return -1;
			}
			if (one->nlmsg_len >= NLMSG_LENGTH(sizeof *socket) && socket->idiag_inode == 0 && count < ORPHANS_MAX)
				orphans[count++] = (struct orphan){ socket->idiag_family, socket->id };
		}
	}
}

/* One that has ended by itself meanwhile is no failure. */
static int destroy(int line, const struct orphan *which)
{
	if (ask(line, SOCK_DESTROY, NLM_F_ACK, which) != 0)
		return -1;
	ssize_t got;
	do
		got = recv(line, answer, sizeof answer, 0);
	while (got < 0 && errno == EINTR);
	const struct nlmsghdr *one = (const void *)answer;
	const struct nlmsgerr *said = NLMSG_DATA(one);
	if (got < (ssize_t)NLMSG_LENGTH(sizeof *said) || one->nlmsg_type != NLMSG_ERROR) {
		if (got >= 0)
			errno = EPROTO;
		return -1;
	}
	errno = -said->error;
	return said->error == 0 || said->error == -ENOENT ? 0 : -1;
}

/* In this namespace, until there are none: how many there were. */
static int destroy_all(void)
{
	const struct timeval limit = { .tv_sec = ANSWER_S };
	int line = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), all = 0;
	if (line < 0 || setsockopt(line, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
		return -1;
	for (int round = 0; round < ROUNDS_MAX; round++) {
		int count = list(line, AF_INET, 0);
		count = count < 0 ? -1 : list(line, AF_INET6, count);
		if (count <= 0)
			return count < 0 ? -1 : all;
		for (int i = 0; i < count; i++)
			if (destroy(line, &orphans[i]) != 0)
				return -1;
		all += count;
	}
	errno = EBUSY;
	return -1;
}

/*
 * Frames also wait in the kernel until it knows their neighbour's address, and the FINs of a process that has ended are among them.
 * With the entry they go.
 */
static int forget_neighbours(void)
{
	FILE *table = fopen("/proc/thread-self/net/arp", "re");
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = 0;
	char line[256], address[64], device[IFNAMSIZ];
	if (table == NULL || any < 0)
		return -1;
	while (fgets(line, sizeof line, table) != NULL) {
		struct arpreq entry = { .arp_pa.sa_family = AF_INET };
		struct in_addr ip;
		if (sscanf(line, "%63s %*s %*s %*s %*s %15s", address, device) != 2 || inet_pton(AF_INET, address, &ip) != 1)
			continue;
		memcpy((char *)&entry.arp_pa + offsetof(struct sockaddr_in, sin_addr), &ip, sizeof ip);
		memcpy(entry.arp_dev, device, sizeof device);
		if (ioctl(any, SIOCDARP, &entry) != 0 && errno != ENXIO)
			result = -1;
	}
	int error = errno;
	fclose(table);
	close(any);
	errno = error;
	return result;
}

static int destroy_and_forget(void)
{
	int count = destroy_all();
	return count < 0 || forget_neighbours() != 0 ? -1 : count;
}

/* A child enters the namespace; what it found comes through a pipe. */
int orphans_destroy(pid_t pid)
{
	char path[64];
	int ends[2], said[2] = { -1, EIO };
	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
	int space = open(path, O_RDONLY | O_CLOEXEC);
	if (space < 0)
		return -1;
	if (pipe2(ends, O_CLOEXEC) != 0) {
		close(space);
		return -1;
	}
	pid_t child = fork();
	if (child == 0) {
		said[0] = setns(space, CLONE_NEWNET) == 0 ? destroy_and_forget() : -1;
		said[1] = errno;
		_exit(write(ends[1], said, sizeof said) == (ssize_t)sizeof said ? 0 : 1);
	}
	int error = errno;
	close(space);
	close(ends[1]);
	if (child > 0) {
		ssize_t got;
		while ((got = read(ends[0], said, sizeof said)) < 0 && errno == EINTR)
			;
		if (got != (ssize_t)sizeof said) {
			said[0] = -1;
			said[1] = EIO;
		}
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
		error = said[1];
	}
	close(ends[0]);
	errno = error;
	return child > 0 ? said[0] : -1;
}
