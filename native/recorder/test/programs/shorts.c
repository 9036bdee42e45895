/*
 * A timer's callback that writes to a socket which does not take everything: the end of the callback's section lies between
 * the record of the output and that of what became of it.
 */
#include <sys/epoll.h>
#include "pair.h"

enum { BLOCK_BYTES = 60 << 10 };
static volatile uint64_t current;
static uint64_t shorts;

static void *timer(void *unused)
{
	static char bytes[BLOCK_BYTES];
	struct epoll_event none;
	int epoll = epoll_create1(0);
	uint64_t hash = 0;
	(void)unused;
	while (going_on()) {
		epoll_wait(epoll, &none, 1, 3);
		current = current + 1;
		for (int i = 0; i < 4; i++) {
			errno = 0;
			ssize_t put = send(here, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
			shorts += put < (ssize_t)sizeof bytes;
			hash = mix(hash, (uint64_t)put * 1009 + (uint64_t)errno + current);
		}
		say("hash", hash);
	}
	return NULL;
}

static void *reader(void *unused)
{
	static char bytes[1 << 18];
	uint64_t hash = 0;
	(void)unused;
	while (going_on()) {
		ssize_t got = recv(there, bytes, sizeof bytes, 0);
		hash = mix(hash, (uint64_t)got + current);
		if (got > 0 || current % 8 == 0)
			say("got", hash);
		nap(900);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	begin(argc, argv);
	join_them();
	MUST(pthread_create(&threads[0], NULL, timer, NULL) == 0);
	MUST(pthread_create(&threads[1], NULL, reader, NULL) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	MUST(shorts > 0);
	return finish();
}
