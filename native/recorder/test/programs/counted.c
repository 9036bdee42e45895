/*
 * Locks that a thread takes again and again are only counted, and others prove the count. Here those follow a sleep, in which
 * mostly nobody else takes the lock, and then the thread computes: its last record is the sleep's, and what others have seen of it is
 * beyond. Run without solo sections, which is how one that could not be had leaves it.
 */
#include "program.h"

enum { READERS = 2, TIMES = 40 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t value, order;
static volatile uint64_t slow;

static void *writer(void *unused)
{
	(void)unused;
	do {
		for (int i = 0; i < TIMES; i++) {
			pthread_mutex_lock(&lock);
			value++;
			pthread_mutex_unlock(&lock);
			if (i == 0)
				nap(50);
		}
		for (int i = 0; i < 20000000; i++)
			slow = slow + 1;
	} while (going_on());
	return NULL;
}

static void *reader(void *argument)
{
	uint64_t id = (uint64_t)argument;
	for (uint64_t n = 1; going_on(); n++) {
		pthread_mutex_lock(&lock);
		order = mix(order, value + id);
		uint64_t hash = order;
		pthread_mutex_unlock(&lock);
		if (n % 4 == 0)
			say("order", hash);
		nap(3000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[1 + READERS];
	begin(argc, argv);
	for (uint64_t i = 0; i <= READERS; i++)
		MUST(pthread_create(&threads[i], NULL, i == 0 ? writer : reader, (void *)i) == 0);
	for (int i = 0; i <= READERS; i++)
		pthread_join(threads[i], NULL);
	MUST(value % TIMES == 0);
	say("order", order);
	return finish();
}
