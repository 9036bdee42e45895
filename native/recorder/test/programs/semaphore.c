/* Two threads hand a token to and fro, others meet at a barrier, once is once. */
#include <semaphore.h>

#include "program.h"

enum { MEETERS = 3 };
static sem_t ping, pong;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t token, meetings, leaders;
static atomic_int once_count;
static atomic_bool last_round;

static void run_once(void) { atomic_fetch_add(&once_count, 1); }

static void *hand(void *argument)
{
	bool first = argument != NULL;
	for (uint64_t n = 0; going_on(); n++) {
		struct timespec soon;
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_sec += 1;
		if (first ? sem_wait(&ping) != 0 : sem_timedwait(&pong, &soon) != 0)
			continue;
		token = mix(token, first);
		if (n % 300 == 0)
			say("token", token);
		sem_post(first ? &pong : &ping);
		sem_trywait(first ? &pong : &ping) == 0 ? sem_post(first ? &pong : &ping) : 0;
	}
	sem_post(first ? &pong : &ping);
	return NULL;
}

static void *meet(void *argument)
{
	uint64_t mine = (uint64_t)argument;
	for (;;) {
		pthread_once(&once, run_once);
		int result = pthread_barrier_wait(&barrier);
		if (result == PTHREAD_BARRIER_SERIAL_THREAD) {
			leaders = mix(leaders, mine);
			if (++meetings % 100 == 0)
				say("leaders", leaders);
			last_round = !going_on();
		}
		pthread_barrier_wait(&barrier);
		if (last_round)
			return NULL;
		nap(50);
	}
}

int main(int argc, char **argv)
{
	pthread_t threads[2 + MEETERS];
	begin(argc, argv);
	sem_init(&ping, 0, 1);
	sem_init(&pong, 0, 0);
	pthread_barrier_init(&barrier, NULL, MEETERS);
	for (uint64_t i = 0; i < 2 + MEETERS; i++)
		MUST(pthread_create(&threads[i], NULL, i < 2 ? hand : meet, (void *)i) == 0);
	for (int i = 0; i < 2 + MEETERS; i++)
		pthread_join(threads[i], NULL);
	MUST(once_count == 1 && meetings > 0);
	say("all", mix(token, leaders));
	return finish();
}
