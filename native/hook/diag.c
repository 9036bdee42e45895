#include "hook/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
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

/* The whole reply in state.again; its length, or -1. */
static ssize_t ask_again(const struct question *question)
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
		if (is_last(state.again + length - got, (size_t)got))
			return (ssize_t)length;
	}
}

static const char *check(bool inet)
{
	if (state.own <= 0)
		return NULL;
	if (state.lost)
		return "sockets that are too many to be known";
	for (size_t i = 0; i < state.questions; i++) {
		struct question *question = &state.question[i];
		int family = question->asked_length > sizeof(struct nlmsghdr) ? question->asked[sizeof(struct nlmsghdr)] : AF_UNSPEC;
		if (is_inet(family) != inet)
			continue;
		ssize_t length = ask_again(question);
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
	return check(false);
}

const char *diag_check_inet(void)
{
	return check(true);
}
