#include "hook/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/netlink_diag.h>
#include <linux/packet_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	QUESTIONS_MAX = 32,
	QUESTION_BYTES_MAX = 256,
	REPLY_BYTES = 64 << 10,
	REPLY_BYTES_MAX = 16 << 20,
	LISTENS = 10, /* TCP_LISTEN */
};

struct question {
	unsigned char asked[QUESTION_BYTES_MAX];
	size_t asked_length;
	unsigned char *heard;
	size_t length, room;
};

static struct {
	int fd, own; /* CRIU's socket and our copy of it; 0: none */
	struct question question[QUESTIONS_MAX];
	size_t questions;
	unsigned char *again;
	size_t again_room;
	bool lost; /* something could not be kept */
} state;

void diag_opened(int fd)
{
	if (state.own > 0) {
		state.lost = true; /* one is all there is of a dump of one network namespace */
		return;
	}
	state.fd = fd;
	state.own = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	state.again = malloc(REPLY_BYTES);
	state.again_room = REPLY_BYTES;
	if (state.own < 0 || state.again == NULL)
		state.lost = true;
	else
		memset(state.again, 0, REPLY_BYTES);
}

void diag_asked(int fd, const struct msghdr *message)
{
	if (state.own <= 0 || fd != state.fd)
		return;
	struct question *question = &state.question[state.questions];
	if (state.questions == QUESTIONS_MAX || message->msg_iovlen != 1 || message->msg_iov[0].iov_len > QUESTION_BYTES_MAX) {
		state.lost = true;
		return;
	}
	question->asked_length = message->msg_iov[0].iov_len;
	memcpy(question->asked, message->msg_iov[0].iov_base, question->asked_length);
	state.questions++;
}

static bool has_room(unsigned char **bytes, size_t *room, size_t needed)
{
	while (*room < needed) {
		size_t more = *room == 0 ? REPLY_BYTES : *room * 2;
		unsigned char *grown = more > REPLY_BYTES_MAX ? NULL : realloc(*bytes, more);
		if (grown == NULL)
			return false;
		*bytes = grown;
		*room = more;
	}
	return true;
}

void diag_heard(int fd, const struct msghdr *message, ssize_t length)
{
	if (state.own <= 0 || fd != state.fd || length <= 0)
		return;
	struct question *question = state.questions == 0 ? NULL : &state.question[state.questions - 1];
	size_t more = (size_t)length;
	bool whole = question != NULL && message->msg_iovlen == 1 && more <= message->msg_iov[0].iov_len &&
		     (message->msg_flags & MSG_TRUNC) == 0;
	if (!whole || !has_room(&question->heard, &question->room, question->length + more)) {
		state.lost = true;
		return;
	}
	memcpy(question->heard + question->length, message->msg_iov[0].iov_base, more);
	question->length += more;
}

static bool is_inet(int family)
{
	return family == AF_INET || family == AF_INET6;
}

size_t diag_normalize(int family, unsigned char *bytes, size_t length)
{
	size_t at = 0;
	while (length - at >= sizeof(struct nlmsghdr)) {
		struct nlmsghdr head;
		memcpy(&head, bytes + at, sizeof head);
		if (head.nlmsg_len < sizeof head || head.nlmsg_len > length - at || head.nlmsg_type == NLMSG_DONE)
			break;
		if (is_inet(family) && head.nlmsg_len >= sizeof head + sizeof(struct inet_diag_msg)) {
			struct inet_diag_msg socket;
			memcpy(&socket, bytes + at + sizeof head, sizeof socket);
			socket.idiag_timer = socket.idiag_retrans = 0;
			socket.idiag_expires = 0;
			/* Of a listening one these say how many wait to be accepted, and of a datagram's whether it has any. */
			if (socket.idiag_state != LISTENS && socket.id.idiag_dport != 0)
				socket.idiag_rqueue = socket.idiag_wqueue = 0;
			memcpy(bytes + at + sizeof head, &socket, sizeof socket);
		}
		at += NLMSG_ALIGN(head.nlmsg_len);
		if (at > length)
			break;
	}
	return at > length ? length : at;
}

static bool is_last(const unsigned char *bytes, size_t length)
{
	for (size_t at = 0; length - at >= sizeof(struct nlmsghdr);) {
		struct nlmsghdr head;
		memcpy(&head, bytes + at, sizeof head);
		if (head.nlmsg_type == NLMSG_DONE || head.nlmsg_type == NLMSG_ERROR)
			return true;
		if (head.nlmsg_len < sizeof head || NLMSG_ALIGN(head.nlmsg_len) > length - at)
			return true;
		at += NLMSG_ALIGN(head.nlmsg_len);
	}
	return false;
}

/* The whole reply in state.again; its length, or -1. A single one has no end of its own. */
static ssize_t ask_again(const struct question *question, bool single)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	size_t length = 0;
	if (syscall(SYS_sendto, state.own, question->asked, question->asked_length, 0, &kernel, sizeof kernel) !=
	    (long)question->asked_length)
		return -1;
	for (;;) {
		if (!has_room(&state.again, &state.again_room, length + REPLY_BYTES / 2))
			return -1;
		/* The kernel makes each part of a reply in the call that asks for it: there is nothing to wait for. */
		long got = syscall(SYS_recvfrom, state.own, state.again + length, state.again_room - length, MSG_DONTWAIT, NULL, NULL);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		length += (size_t)got;
		if (single || is_last(state.again + length - got, (size_t)got))
			return (ssize_t)length;
	}
}

/* ---- one by one ---- */

struct message {
	const unsigned char *bytes; /* what follows the head */
	size_t length;
};

/* The message at *at, which goes on; false at the end. */
static bool next_message(const unsigned char *bytes, size_t length, size_t *at, struct message *out)
{
	struct nlmsghdr head;
	if (length - *at < sizeof head)
		return false;
	memcpy(&head, bytes + *at, sizeof head);
	if (head.nlmsg_len < sizeof head || head.nlmsg_len > length - *at || head.nlmsg_type == NLMSG_DONE || head.nlmsg_type == NLMSG_ERROR)
		return false;
	*out = (struct message){ .bytes = bytes + *at + sizeof head, .length = head.nlmsg_len - sizeof head };
	*at += NLMSG_ALIGN(head.nlmsg_len);
	if (*at > length)
		*at = length;
	return true;
}

/* 0: it has none, or is of a kind that is not known. */
static uint32_t inode_of(const struct message *message)
{
	static const struct {
		int family;
		size_t offset;
	} known[] = {
		{ AF_INET, offsetof(struct inet_diag_msg, idiag_inode) },   { AF_INET6, offsetof(struct inet_diag_msg, idiag_inode) },
		{ AF_UNIX, offsetof(struct unix_diag_msg, udiag_ino) },	    { AF_NETLINK, offsetof(struct netlink_diag_msg, ndiag_ino) },
		{ AF_PACKET, offsetof(struct packet_diag_msg, pdiag_ino) },
	};
	uint32_t inode = 0;
	for (size_t i = 0; message->length > 0 && i < sizeof known / sizeof *known; i++)
		if (known[i].family == message->bytes[0] && message->length >= known[i].offset + sizeof inode)
			memcpy(&inode, message->bytes + known[i].offset, sizeof inode);
	return inode;
}

static bool is_among(const uint32_t *own, ssize_t count, uint32_t inode)
{
	for (ssize_t i = 0; i < count; i++)
		if (own[i] == inode)
			return true;
	return false;
}

static bool was_told(uint32_t inode)
{
	struct message message;
	for (size_t i = 0; i < state.questions; i++)
		for (size_t at = 0; next_message(state.question[i].heard, state.question[i].length, &at, &message);)
			if (inode_of(&message) == inode)
				return true;
	return false;
}

static bool is_about_tcp(const struct question *question)
{
	const unsigned char *family = question->asked + sizeof(struct nlmsghdr);
	return question->asked_length == sizeof(struct nlmsghdr) + sizeof(struct inet_diag_req_v2) && is_inet(family[0]) &&
	       family[1] == IPPROTO_TCP;
}

/* The same question, about this one alone. */
static bool is_as_told(const struct question *question, const struct message *told)
{
	struct question one = { .asked_length = question->asked_length };
	struct inet_diag_req_v2 ask;
	struct nlmsghdr head;
	struct message now;
	size_t at = 0;
	memcpy(&head, question->asked, sizeof head);
	memcpy(&ask, question->asked + sizeof head, sizeof ask);
	head.nlmsg_flags = NLM_F_REQUEST;
	memcpy(&ask.id, told->bytes + offsetof(struct inet_diag_msg, id), sizeof ask.id);
	memcpy(one.asked, &head, sizeof head);
	memcpy(one.asked + sizeof head, &ask, sizeof ask);
	ssize_t length = ask_again(&one, true);
	if (length < 0)
		return false;
	(void)diag_normalize(ask.sdiag_family, state.again, (size_t)length);
	return next_message(state.again, (size_t)length, &at, &now) && now.length == told->length &&
	       memcmp(now.bytes, told->bytes, now.length) == 0;
}

/* False: in doubt, all must be listed again. */
static bool own_are_the_same(struct question *question, const uint32_t *own, ssize_t count)
{
	struct message message;
	if (count < 0)
		return false;
	for (ssize_t i = 0; i < count; i++)
		if (!was_told(own[i]))
			return false;
	(void)diag_normalize(question->asked[sizeof(struct nlmsghdr)], question->heard, question->length);
	for (size_t at = 0; next_message(question->heard, question->length, &at, &message);) {
		if (message.length < sizeof(struct inet_diag_msg))
			return false;
		if (is_among(own, count, inode_of(&message)) && !is_as_told(question, &message))
			return false;
	}
	return true;
}

static const char *check(bool inet, const uint32_t *own, ssize_t count)
{
	if (state.own <= 0)
		return NULL;
	if (state.lost)
		return "sockets that are too many to be known";
	for (size_t i = 0; i < state.questions; i++) {
		struct question *question = &state.question[i];
		int family = question->asked_length > sizeof(struct nlmsghdr) ? question->asked[sizeof(struct nlmsghdr)] : AF_UNSPEC;
		if (is_inet(family) != inet || (inet && is_about_tcp(question) && own_are_the_same(question, own, count)))
			continue;
		ssize_t length = ask_again(question, false);
		if (length < 0)
			return "sockets";
		size_t now = diag_normalize(family, state.again, (size_t)length);
		size_t before = diag_normalize(family, question->heard, question->length);
		if (now != before || memcmp(state.again, question->heard, now) != 0)
			return "sockets";
	}
	return NULL;
}

const char *diag_check_local(void)
{
	return check(false, NULL, -1);
}

const char *diag_check_inet(const uint32_t *own, ssize_t count)
{
	return check(true, own, count);
}
