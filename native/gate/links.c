#include "gate/links.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define DUMP_MESSAGES_MAX 100000
#define ANSWER_TIMEOUT_MS 1000

struct link {
	unsigned index;
	unsigned master;
	bool live;
	bool tun;
};

typedef void (*link_visitor)(const struct link *link, void *context);

int links_watch(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

void links_drain(int fd)
{
	char bytes[8192];
	/* What it says does not matter (nor that some was lost, ENOBUFS): it is only asked anew. */
	for (int i = 0; i < 1000; i++)
		if (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) < 0 && errno != ENOBUFS && errno != EINTR)
			return;
}

static bool is_tun(struct rtattr *info)
{
	int left = (int)RTA_PAYLOAD(info);
	for (struct rtattr *at = RTA_DATA(info); RTA_OK(at, left); at = RTA_NEXT(at, left))
		if (at->rta_type == IFLA_INFO_KIND)
			return RTA_PAYLOAD(at) >= 3 && memcmp(RTA_DATA(at), "tun", 3) == 0;
	return false;
}

static void visit(struct nlmsghdr *message, link_visitor visitor, void *context)
{
	struct ifinfomsg *info = NLMSG_DATA(message);
	struct link link = {.index = (unsigned)info->ifi_index};
	int left = (int)IFLA_PAYLOAD(message);
	link.live = (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_RUNNING) != 0;
	for (struct rtattr *at = IFLA_RTA(info); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		unsigned type = at->rta_type & NLA_TYPE_MASK;
		if (type == IFLA_MASTER && RTA_PAYLOAD(at) == 4)
			memcpy(&link.master, RTA_DATA(at), 4);
		else if (type == IFLA_LINKINFO)
			link.tun = is_tun(at);
	}
	visitor(&link, context);
}

/* 1: the answer is complete. 0: more to come. -1 with errno. */
static int digest(char *bytes, ssize_t length, link_visitor visitor, void *context)
{
	int left = (int)length;
	for (struct nlmsghdr *at = (struct nlmsghdr *)(void *)bytes; NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
		if (at->nlmsg_type == NLMSG_DONE)
			return 1;
		if (at->nlmsg_type == NLMSG_ERROR) {
			errno = -((struct nlmsgerr *)NLMSG_DATA(at))->error;
			return -1;
		}
		if (at->nlmsg_type == RTM_NEWLINK)
			visit(at, visitor, context);
	}
	return 0;
}

static int dump(link_visitor visitor, void *context)
{
	static char bytes[65536] __attribute__((aligned(8)));
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = {.header = {.nlmsg_len = sizeof request,
				.nlmsg_type = RTM_GETLINK,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
				.nlmsg_seq = 1}};
	struct timeval timeout = {.tv_usec = ANSWER_TIMEOUT_MS * 1000 % 1000000, .tv_sec = ANSWER_TIMEOUT_MS / 1000};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return -1;
	int result = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	if (result == 0 && send(fd, &request, sizeof request, 0) < 0)
		result = -1;
	for (int i = 0; result == 0 && i < DUMP_MESSAGES_MAX; i++) {
		ssize_t length = recv(fd, bytes, sizeof bytes, 0);
		if (length < 0 && errno == EINTR)
			continue;
		result = length < 0 ? -1 : digest(bytes, length, visitor, context);
	}
	int error = errno;
	close(fd);
	errno = error;
	return result < 0 ? -1 : 0;
}

struct port_count {
	unsigned bridge;
	struct links_summary *summary;
};

static void count_port(const struct link *link, void *context)
{
	struct port_count *count = context;
	if (link->master != count->bridge || link->tun)
		return;
	count->summary->ports++;
	if (link->live)
		count->summary->live++;
}

int links_summarise(unsigned bridge_index, struct links_summary *out)
{
	struct port_count count = {bridge_index, out};
	memset(out, 0, sizeof *out);
	return dump(count_port, &count);
}

struct master_search {
	unsigned index;
	unsigned master;
};

static void match_master(const struct link *link, void *context)
{
	struct master_search *search = context;
	if (link->index == search->index)
		search->master = link->master;
}

unsigned links_master(unsigned index)
{
	struct master_search search = {index, 0};
	if (dump(match_master, &search) != 0)
		fprintf(stderr, "could not list the interfaces: %s\n", strerror(errno));
	return search.master;
}
