/* The rarer ways to wait and to move several messages: pselect, epoll_pwait2, recvmmsg, sendmmsg, eventfd_read. */
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>

#include "pair.h"

static uint64_t hash;

static void send_two(void)
{
	char text[2][32];
	struct iovec parts[2];
	struct mmsghdr out[2] = {0};
	for (int i = 0; i < 2; i++) {
		parts[i] = (struct iovec){text[i], (size_t)snprintf(text[i], sizeof text[i], "%d %016llx;", i, (unsigned long long)hash)};
		out[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	MUST(sendmmsg(here, out, 2, MSG_NOSIGNAL) == 2 && out[1].msg_len == parts[1].iov_len);
}

/* A connection that is cut (a replay that goes live without its peer) is made anew. */
static void again(void)
{
	close(here);
	close(there);
	join_them();
}

static bool receive(void)
{
	char text[2][20];
	struct iovec parts[2] = {{text[0], sizeof text[0]}, {text[1], sizeof text[1]}};
	struct mmsghdr in[2] = {{.msg_hdr = {.msg_iov = &parts[0], .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &parts[1], .msg_iovlen = 1}}};
	int got = recvmmsg(there, in, 2, MSG_WAITFORONE, NULL);
	for (int i = 0; i < got; i++)
		for (unsigned at = 0; at < in[i].msg_len; at++)
			hash = mix(hash, (uint8_t)text[i][at]);
	return got > 0 && in[0].msg_len > 0;
}

/* A freeze may interrupt a wait for a set. */
static int wait_for(int set, struct epoll_event *got, const struct timespec *limit, const sigset_t *mask)
{
	int count;
	do
		count = epoll_pwait2(set, got, 1, limit, mask);
	while (count < 0 && errno == EINTR);
	return count;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	join_them();
	int event = eventfd(0, EFD_NONBLOCK), set = epoll_create1(0);
	struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 77}, got;
	MUST(event >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, event, &wanted) == 0);
	while (going_on() && !failures) {
		struct timespec limit = {0, 200000000}, moment = {0, 200000};
		sigset_t mask;
		fd_set ready;
		sigemptyset(&mask);
		sigaddset(&mask, SIGUSR1);
		send_two();
		FD_ZERO(&ready);
		FD_SET(there, &ready);
		if (pselect(there + 1, &ready, NULL, NULL, &limit, &mask) != 1 || !receive())
			again();
		eventfd_t value = 0;
		MUST(wait_for(set, &got, &moment, NULL) == 0);
		MUST(eventfd_write(event, 5) == 0 && wait_for(set, &got, &limit, &mask) == 1 && got.data.u64 == 77);
		MUST(eventfd_read(event, &value) == 0 && value == 5 && eventfd_read(event, &value) == -1);
		say("waits", hash);
	}
	return finish();
}
