#include "live/stand_in.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "live/message.h"
#include "live/session.h"

enum { KNOCK_TIMEOUT_MS = 1000 };

static bool waits(const struct connection *connection)
{
	return connection->opened && connection->opened_by_remote && !connection->adopted && !connection->claimed &&
	       connection->stage == STAGE_ESTABLISHED && connection_acknowledged(connection) == 0 &&
	       connection->send_next == connection->output_origin && !connection->local_fin_seen;
}

/* Whether a port has a listener of a family. The kernel is asked for listeners alone: /proc/net/tcp walks through all sockets. */
static bool listens(int netlink, int family, uint16_t port)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} request = {
		.header = { .nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.body = { .sdiag_family = (uint8_t)family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = 1u << TCP_LISTEN },
	};
	_Alignas(struct nlmsghdr) char room[16384];
	bool found = false;
	if (send(netlink, &request, sizeof request, 0) != (ssize_t)sizeof request)
		return false;
	for (ssize_t got; (got = recv(netlink, room, sizeof room, 0)) > 0;) {
		const struct nlmsghdr *at = (const struct nlmsghdr *)room;
		for (; NLMSG_OK(at, (size_t)got); at = NLMSG_NEXT(at, got)) {
			if (at->nlmsg_type == NLMSG_DONE || at->nlmsg_type == NLMSG_ERROR)
				return found;
			const struct inet_diag_msg *one = NLMSG_DATA(at);
			found |= ntohs(one->id.idiag_sport) == port;
		}
	}
	return found;
}

/* A listener of IPv6 accepts sockets of IPv6, whoever calls. */
static int listener_domain(uint16_t port)
{
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (netlink < 0)
		return AF_INET;
	bool six = !listens(netlink, AF_INET, port) && listens(netlink, AF_INET6, port);
	close(netlink);
	return six ? AF_INET6 : AF_INET;
}

/* Over the loopback device: done when connect() returns, unless the listener's queue is full. */
static int knock(const struct tuple *tuple, uint16_t *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = tuple->local, .sin_port = htons(tuple->local_port) };
	socklen_t length = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	/* The byte is for listeners that want data first (TCP_DEFER_ACCEPT). */
	if (message_limit(fd, KNOCK_TIMEOUT_MS) == 0 && connect(fd, (struct sockaddr *)&at, length) == 0 &&
	    send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 && getsockname(fd, (struct sockaddr *)&at, &length) == 0) {
		*port = ntohs(at.sin_port);
		return fd;
	}
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static void reset(int fd)
{
	static const struct linger now = { .l_onoff = 1 };
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* then it is a FIN */
	close(fd);
}

static int make_one(struct broker *broker, struct connection *connection, struct stand_in *out)
{
	static const struct view nothing = { 0 };
	struct plan plan;
	int fd = socket(listener_domain(connection->tuple.local_port), SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	connection->claimed = true;
	enum plan_verdict verdict =
		plan_make(connection, &broker->tracker->pool, NULL, &nothing, broker_clock_ns(broker), &plan);
	if (verdict == PLAN_REBUILD && broker_rebuild(broker, fd, &plan, NULL, 1) != 0)
		verdict = PLAN_UNKNOWN;
	plan_free(&plan);
	*out = (struct stand_in){ .tuple = connection->tuple, .socket = fd, .knock = -1 };
	if (verdict == PLAN_REBUILD)
		out->knock = knock(&connection->tuple, &out->port);
	if (out->knock >= 0)
		return 0;
	fprintf(stderr, "ftlive: a connection to port %u, not accepted yet, is reset: %s\n", connection->tuple.local_port,
		verdict == PLAN_REBUILD ? strerror(errno) : plan_verdict_name(verdict));
	reset(fd);
	return -1;
}

int stand_ins_make(struct broker *broker, struct stand_ins *out)
{
	uint32_t room = 0;
	for (struct connection *c = NULL; (c = tracker_next(broker->tracker, c)) != NULL;)
		room += waits(c) ? 1 : 0;
	if (room > HANDOVER_STAND_INS_MAX)
		room = HANDOVER_STAND_INS_MAX; /* no listener's queue is as long, as a rule; the rest is reset when it speaks */
	*out = (struct stand_ins){ .one = calloc(room + 1, sizeof *out->one) };
	if (out->one == NULL)
		return -1;
	for (struct connection *c = NULL; out->count < room && (c = tracker_next(broker->tracker, c)) != NULL;) {
		if (!waits(c))
			continue;
		if (make_one(broker, c, &out->one[out->count]) == 0)
			out->count++;
		else
			broker->count.failed++;
	}
	out->left = out->count;
	return 0;
}

int stand_ins_tell(const struct stand_ins *all, int session)
{
	struct handover_message message;
	for (uint32_t i = 0; i < all->count; i++) {
		message_begin(&message, HANDOVER_STAND_IN);
		message.remote_port = all->one[i].port;
		if (message_send(session, &message, NULL, 0, -1) != 0)
			return -1;
	}
	message_begin(&message, HANDOVER_END);
	return message_send(session, &message, NULL, 0, -1);
}

int stand_ins_give(struct stand_ins *all, int session)
{
	struct handover_message message;
	int fd;
	if (message_receive(session, &message, NULL, 0, NULL, &fd) != 0)
		return -1;
	if (fd >= 0)
		close(fd);
	if (message.kind != HANDOVER_TAKE || fd >= 0) {
		errno = EPROTO;
		return -1;
	}
	struct stand_in *found = NULL;
	for (uint32_t i = 0; i < all->count && found == NULL; i++)
		if (all->one[i].port == message.remote_port && all->one[i].socket >= 0)
			found = &all->one[i];
	message_begin(&message, HANDOVER_GIVEN);
	if (found == NULL)
		return message_send(session, &message, NULL, 0, -1);
	message.local = found->tuple.local;
	message.remote = found->tuple.remote;
	message.local_port = found->tuple.local_port;
	message.remote_port = found->tuple.remote_port;
	int result = message_send(session, &message, NULL, 0, found->socket);
	close(found->socket);
	close(found->knock);
	found->socket = found->knock = -1;
	all->left--;
	return result;
}

void stand_ins_free(struct stand_ins *all)
{
	for (uint32_t i = 0; i < all->count; i++) {
		if (all->one[i].socket >= 0)
			reset(all->one[i].socket);
		if (all->one[i].knock >= 0)
			close(all->one[i].knock);
	}
	free(all->one);
	*all = (struct stand_ins){ 0 };
}
