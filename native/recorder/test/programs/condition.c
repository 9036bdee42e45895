/* A bounded queue on condition variables, also timed; what goes in comes out, once. */
#include "program.h"

enum { PRODUCERS = 2, CONSUMERS = 2, ROOM = 8 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static uint64_t queue[ROOM], put_sum, took_sum, order;
static unsigned count, producing = PRODUCERS, timeouts;

static void *produce(void *argument)
{
	uint64_t value = (uint64_t)argument;
	while (going_on()) {
		value = mix(value, 1);
		pthread_mutex_lock(&lock);
		while (count == ROOM)
			pthread_cond_wait(&not_full, &lock);
		queue[count++] = value;
		put_sum += value;
		pthread_cond_signal(&not_empty);
		pthread_mutex_unlock(&lock);
	}
	pthread_mutex_lock(&lock);
	producing--;
	pthread_cond_broadcast(&not_empty);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void *consume(void *argument)
{
	uint64_t id = (uint64_t)argument, n = 0;
	for (;;) {
		pthread_mutex_lock(&lock);
		while (count == 0 && producing > 0) {
			struct timespec soon;
			clock_gettime(CLOCK_REALTIME, &soon);
			soon.tv_nsec += 200000;
			if (soon.tv_nsec >= 1000000000) {
				soon.tv_sec++;
				soon.tv_nsec -= 1000000000;
			}
			if (id % 2 == 0)
				pthread_cond_wait(&not_empty, &lock);
			else if (pthread_cond_timedwait(&not_empty, &lock, &soon) == ETIMEDOUT)
				timeouts++;
		}
		if (count == 0) {
			pthread_mutex_unlock(&lock);
			return NULL;
		}
		uint64_t value = queue[--count];
		took_sum += value;
		order = mix(order, value + id);
		uint64_t seen = order;
		pthread_cond_signal(&not_full);
		pthread_mutex_unlock(&lock);
		if (++n % 500 == 0)
			say("order", seen);
	}
}

int main(int argc, char **argv)
{
	pthread_t threads[PRODUCERS + CONSUMERS];
	begin(argc, argv);
	for (uint64_t i = 0; i < PRODUCERS + CONSUMERS; i++)
		MUST(pthread_create(&threads[i], NULL, i < PRODUCERS ? produce : consume, (void *)(i + 1)) == 0);
	for (int i = 0; i < PRODUCERS + CONSUMERS; i++)
		pthread_join(threads[i], NULL);
	MUST(put_sum == took_sum);
	say("order", mix(order, timeouts));
	return finish();
}
