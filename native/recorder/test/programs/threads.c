/* Threads that come and go, end in three ways, and use lanes again. */
#include "program.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t order, born;

static void *live(void *argument)
{
	uint64_t id = (uint64_t)argument;
	for (int i = 0; i < 20; i++) {
		pthread_mutex_lock(&lock);
		order = mix(order, id + (uint64_t)i);
		pthread_mutex_unlock(&lock);
	}
	if (id % 3 == 0)
		pthread_exit((void *)(id * 2));
	if (id % 3 == 1)
		for (;;)
			sleep(1); /* until it is cancelled */
	return (void *)(id * 2);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	while (going_on()) {
		pthread_t threads[6];
		uint64_t first = born;
		for (int i = 0; i < 6; i++)
			MUST(pthread_create(&threads[i], NULL, live, (void *)born++) == 0);
		for (int i = 0; i < 6; i++) {
			void *value = NULL;
			if ((first + (uint64_t)i) % 3 == 1)
				pthread_cancel(threads[i]);
			MUST(pthread_join(threads[i], &value) == 0);
			MUST(value == PTHREAD_CANCELED || value == (void *)((first + (uint64_t)i) * 2));
		}
		say("order", order);
	}
	MUST(born > 0);
	return finish();
}
