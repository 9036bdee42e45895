#ifndef FT_DUMP_CLOCK_H
#define FT_DUMP_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* For poll(): what is left until `deadline_us`, rounded up, at least 0. */
static inline int clock_left_ms(uint64_t deadline_us)
{
	uint64_t now = clock_us();
	uint64_t left = deadline_us > now ? (deadline_us - now + 999) / 1000 : 0;
	return left > 3600000 ? 3600000 : (int)left;
}

#endif
