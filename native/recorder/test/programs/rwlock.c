/* Readers, writers and a spin lock. Readers must never see half of what a writer writes. */
#include "program.h"

enum { THREADS = 4 };
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static uint64_t left, right, seen;

static void *work(void *argument)
{
	uint64_t id = (uint64_t)argument, mine = id;
	while (going_on())
		for (int i = 0; i < 200; i++) {
			if (i % 8 == 0) {
				if (i % 16 == 0)
					pthread_rwlock_wrlock(&lock);
				else if (pthread_rwlock_trywrlock(&lock) != 0)
					continue;
				left = mix(left, mine);
				right = left;
				pthread_rwlock_unlock(&lock);
			} else {
				if (i % 3 != 0)
					pthread_rwlock_rdlock(&lock);
				else if (pthread_rwlock_tryrdlock(&lock) != 0)
					continue;
				MUST(left == right);
				mine = mix(mine, left);
				pthread_rwlock_unlock(&lock);
			}
			pthread_spin_lock(&spin);
			seen = mix(seen, mine);
			pthread_spin_unlock(&spin);
			if (i == 0)
				say("mine", mine);
		}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	begin(argc, argv);
	pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
	for (uint64_t i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	say("seen", mix(seen, left));
	return finish();
}
