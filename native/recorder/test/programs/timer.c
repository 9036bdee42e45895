/*
 * What memcached does: a timer's callback writes what others read without a lock. Solo sections make it replay.
 */
#include <sys/epoll.h>

#include "program.h"

enum { READERS = 3 };
static volatile uint64_t current;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, callback_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t order, slow;

static void *timer(void *unused)
{
	(void)unused;
	int epoll = epoll_create1(0);
	struct epoll_event none;
	while (going_on()) {
		epoll_wait(epoll, &none, 1, 7);
		for (int i = 0; i < 5; i++) {
			current = current + 1;
			/* A lock that is free does not end the callback's section, and takes a while. */
			pthread_mutex_lock(&callback_lock);
			for (int n = 0; n < 2000; n++)
				slow = mix(slow, current);
			pthread_mutex_unlock(&callback_lock);
		}
	}
	return NULL;
}

static void *reader(void *argument)
{
	uint64_t id = (uint64_t)argument, hash = 0;
	for (uint64_t n = 1; going_on(); n++) {
		uint64_t seen = current;
		MUST(seen % 5 == 0); /* never in the middle of the callback */
		pthread_mutex_lock(&lock);
		order = mix(order, seen + id);
		hash = mix(hash, order);
		pthread_mutex_unlock(&lock);
		if (n % 200 == 0)
			say("hash", hash);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[1 + READERS];
	begin(argc, argv);
	for (uint64_t i = 0; i <= READERS; i++)
		MUST(pthread_create(&threads[i], NULL, i == 0 ? timer : reader, (void *)i) == 0);
	for (int i = 0; i <= READERS; i++)
		pthread_join(threads[i], NULL);
	say("order", order);
	return finish();
}
