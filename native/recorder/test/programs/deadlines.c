/* Absolute time-outs on the monotonic clock, which a replay leaves behind the application's: what has passed has passed. */
#include "program.h"

enum { PAST_NS = 30000000, SOON_NS = 200000, TRIES = 5, TOO_LONG_NS = 50000000 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t monotonic;
static uint64_t rounds;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct timespec at(uint64_t ns) { return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)}; }

static void wait_until(struct timespec until)
{
	pthread_mutex_lock(&lock);
	MUST(pthread_cond_timedwait(&monotonic, &lock, &until) == ETIMEDOUT);
	pthread_mutex_unlock(&lock);
}

static void sleep_until(struct timespec until)
{
	MUST(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0);
}

/* The best of some: on a slow machine each may take long for other reasons. */
static void must_be_quick(void (*wait)(struct timespec))
{
	uint64_t best_ns = UINT64_MAX;
	for (int i = 0; i < TRIES && best_ns > TOO_LONG_NS; i++) {
		uint64_t from_ns = now_ns();
		wait(at(from_ns - PAST_NS));
		uint64_t took_ns = now_ns() - from_ns;
		best_ns = took_ns < best_ns ? took_ns : best_ns;
	}
	MUST(best_ns <= TOO_LONG_NS);
	uint64_t from_ns = now_ns();
	wait(at(from_ns + SOON_NS));
	MUST(now_ns() - from_ns >= SOON_NS);
}

int main(int argc, char **argv)
{
	pthread_condattr_t attributes;
	begin(argc, argv);
	pthread_condattr_init(&attributes);
	MUST(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
	MUST(pthread_cond_init(&monotonic, &attributes) == 0);
	while (going_on()) {
		must_be_quick(wait_until);
		must_be_quick(sleep_until);
		say("round", ++rounds);
		nap(500);
	}
	return finish();
}
