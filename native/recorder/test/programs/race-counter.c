/*
 * A data race, seldom: workers answer requests, and every few hundred each of them adds to a counter that belongs to nobody, and says
 * what it saw. Whose turn was first is known to nobody but the time.
 */
#include "sleeper.h"

#ifndef LOCKED
#define LOCKED 0
#endif
enum { WORKERS = 3, SELDOM = 400 };
static volatile uint64_t counter;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *argument)
{
	uint64_t id = (uint64_t)argument, hash = id;
	int sleeper = make_sleeper(), random = open("/dev/urandom", O_RDONLY);
	MUST(random >= 0);
	for (uint64_t n = 1; going_on(); n++) {
		uint64_t request;
		MUST(read(random, &request, sizeof request) == sizeof request);
		for (int i = 0; i < 200; i++)
			hash = mix(hash, request + (uint64_t)i);
		if (n % SELDOM == 0) {
			if (LOCKED)
				pthread_mutex_lock(&lock);
			uint64_t seen = counter;
			counter = seen + 1;
			if (LOCKED)
				pthread_mutex_unlock(&lock);
			say("seen", seen);
		}
		sleep_on(sleeper, (long)(request % 200) + 1);
	}
	close(sleeper);
	close(random);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[WORKERS];
	begin(argc, argv);
	for (uint64_t i = 0; i < WORKERS; i++)
		MUST(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	say("counter", counter);
	return finish();
}
