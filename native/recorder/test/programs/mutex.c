/* Four threads, many mutexes (also tried, timed and recursive), a state that depends on the order of every acquisition. */
#include "program.h"

enum { LOCKS = 64, THREADS = 4 };
static pthread_mutex_t locks[LOCKS], recursive;
static uint64_t states[LOCKS], deep, counts[THREADS], deep_count;

static void *work(void *argument)
{
	uint64_t id = (uint64_t)argument, seed = id;
	while (going_on())
		for (int i = 0; i < 500; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			unsigned k = (unsigned)(seed >> 40) % LOCKS;
			struct timespec soon;
			bool have = true;
			if (seed >> 20 & 1) {
				pthread_mutex_lock(&locks[k]);
			} else if (i % 100 == 0) {
				clock_gettime(CLOCK_REALTIME, &soon);
				soon.tv_nsec = soon.tv_nsec / 2;
				have = pthread_mutex_timedlock(&locks[k], &soon) == 0;
			} else {
				have = pthread_mutex_trylock(&locks[k]) == 0;
			}
			if (!have) {
				seed += 7;
				continue;
			}
			states[k] = mix(states[k], id);
			seed ^= states[k];
			counts[id - 1]++;
			pthread_mutex_unlock(&locks[k]);
			if (i % 50 == 0) {
				pthread_mutex_lock(&recursive);
				pthread_mutex_lock(&recursive);
				deep = mix(deep, seed);
				deep_count++;
				pthread_mutex_unlock(&recursive);
				pthread_mutex_unlock(&recursive);
			}
			if (i == 0)
				say("seed", seed);
		}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	pthread_mutexattr_t attributes;
	begin(argc, argv);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&recursive, &attributes);
	for (int i = 0; i < LOCKS; i++)
		pthread_mutex_init(&locks[i], NULL);
	for (uint64_t i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	uint64_t all = 0, sum = 0;
	for (int i = 0; i < LOCKS; i++)
		all = mix(all, states[i]);
	for (int i = 0; i < THREADS; i++)
		sum += counts[i];
	MUST(sum > 0 && deep_count > 0);
	say("all", mix(all, deep));
	return finish();
}
