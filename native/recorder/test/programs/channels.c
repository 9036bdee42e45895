/* Threads that talk by pipe, eventfd and socket pair. Memory is handed over by nothing but the bytes. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "program.h"

static int pipe_fds[2], pair_fds[2], event, epoll, timer;
static uint64_t box, sum_sent, sum_got, rung;

static void *writer(void *unused)
{
	(void)unused;
	uint64_t value = 1, one = 1;
	while (going_on()) {
		value = mix(value, 3);
		box = value; /* read by the other after the byte that says so */
		sum_sent += value;
		MUST(write(pipe_fds[1], &value, sizeof value) == sizeof value);
		MUST(write(event, &one, sizeof one) == sizeof one);
		uint64_t answer;
		ssize_t got = read(pair_fds[0], &answer, sizeof answer);
		MUST(got == sizeof answer && answer == value + 1);
	}
	value = 0;
	MUST(write(pipe_fds[1], &value, sizeof value) == sizeof value);
	return NULL;
}

static void *reader(void *unused)
{
	(void)unused;
	for (uint64_t n = 1;; n++) {
		struct epoll_event ready[4];
		uint64_t value = 0;
		int count = epoll_wait(epoll, ready, 4, 1000);
		for (int i = 0; i < count; i++)
			if (ready[i].data.ptr == &event && read(event, &value, sizeof value) == sizeof value)
				rung += value;
			else if (ready[i].data.ptr == &timer && read(timer, &value, sizeof value) == sizeof value)
				say("ticks", mix(value, n));
		if (read(pipe_fds[0], &value, sizeof value) != sizeof value)
			continue;
		if (value == 0)
			return NULL;
		MUST(box == value);
		sum_got += value++;
		MUST(write(pair_fds[1], &value, sizeof value) == sizeof value);
		if (n % 100 == 0)
			say("sum", mix(sum_got, rung));
	}
}

static void watch(int fd, void *data)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = data};
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0);
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	struct itimerspec often = {{0, 20000000}, {0, 20000000}};
	begin(argc, argv);
	MUST(pipe2(pipe_fds, O_NONBLOCK) == 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair_fds) == 0);
	MUST((event = eventfd(0, EFD_NONBLOCK)) >= 0 && (epoll = epoll_create1(0)) >= 0);
	MUST((timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) >= 0 && timerfd_settime(timer, 0, &often, NULL) == 0);
	watch(pipe_fds[0], &pipe_fds);
	watch(event, &event);
	watch(timer, &timer);
	MUST(pthread_create(&threads[0], NULL, writer, NULL) == 0);
	MUST(pthread_create(&threads[1], NULL, reader, NULL) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	MUST(sum_sent == sum_got);
	return finish();
}
