/* Waiting as for a client: for input, and not for time, after which the recorder would let a thread run alone. */
#ifndef FT_TEST_SLEEPER_H
#define FT_TEST_SLEEPER_H
#include <sys/timerfd.h>

#include "program.h"

static inline int make_sleeper(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	MUST(fd >= 0);
	return fd;
}

static inline void sleep_on(int fd, long us)
{
	struct itimerspec soon = {.it_value.tv_nsec = us * 1000};
	uint64_t times;
	MUST(timerfd_settime(fd, 0, &soon, NULL) == 0);
	MUST(read(fd, &times, sizeof times) == sizeof times);
}
#endif
