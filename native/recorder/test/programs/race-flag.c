/*
 * A data race, seldom: one thread puts a new table in place and says so in a flag, the others look at both without a lock, as
 * programs do with settings that are read again.
 */
#include "sleeper.h"

enum { READERS = 3, ENTRIES = 16 };
static uint64_t tables[2][ENTRIES];
static volatile unsigned current;

static void *reload(void *unused)
{
	int sleeper = make_sleeper(), random = open("/dev/urandom", O_RDONLY);
	(void)unused;
	MUST(random >= 0);
	while (going_on()) {
		unsigned next = !current;
		MUST(read(random, tables[next], sizeof tables[next]) == sizeof tables[next]);
		current = next;
		sleep_on(sleeper, 150000);
	}
	close(sleeper);
	close(random);
	return NULL;
}

static void *reader(void *argument)
{
	uint64_t hash = (uint64_t)argument;
	int sleeper = make_sleeper(), zero = open("/dev/zero", O_RDONLY);
	MUST(zero >= 0);
	for (uint64_t n = 1; going_on(); n++) {
		uint64_t nothing;
		MUST(read(zero, &nothing, sizeof nothing) == sizeof nothing);
		hash = mix(hash, tables[current][n % ENTRIES]);
		if (n % 5 == 0)
			say("hash", hash);
		sleep_on(sleeper, 2000);
	}
	close(sleeper);
	close(zero);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[1 + READERS];
	begin(argc, argv);
	for (uint64_t i = 0; i <= READERS; i++)
		MUST(pthread_create(&threads[i], NULL, i == 0 ? reload : reader, (void *)i) == 0);
	for (int i = 0; i <= READERS; i++)
		pthread_join(threads[i], NULL);
	say("end", current);
	return finish();
}
