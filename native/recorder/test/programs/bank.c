/*
 * A bank: tellers take orders from outside and move money between accounts, each with its lock; an auditor takes all the locks and
 * never finds more or less than there was.
 */
#include "program.h"

enum { ACCOUNTS = 32, TELLERS = 4, START = 1000 };
static struct {
	pthread_mutex_t lock;
	int64_t money;
	uint64_t history;
} accounts[ACCOUNTS];
static uint64_t audits;

static void *tell(void *argument)
{
	uint64_t id = (uint64_t)argument, orders[64];
	int random = open("/dev/urandom", O_RDONLY);
	MUST(random >= 0);
	while (going_on()) {
		MUST(read(random, orders, sizeof orders) == sizeof orders);
		for (int i = 0; i < 64; i++) {
			unsigned from = orders[i] % ACCOUNTS, to = orders[i] / ACCOUNTS % ACCOUNTS;
			int64_t sum = (int64_t)(orders[i] >> 32) % 100;
			if (from == to)
				continue;
			pthread_mutex_lock(&accounts[from < to ? from : to].lock);
			pthread_mutex_lock(&accounts[from < to ? to : from].lock);
			accounts[from].money -= sum;
			accounts[to].money += sum;
			accounts[from].history = mix(accounts[from].history, id + (uint64_t)sum);
			accounts[to].history = mix(accounts[to].history, accounts[from].history);
			uint64_t seen = accounts[to].history;
			pthread_mutex_unlock(&accounts[to].lock);
			pthread_mutex_unlock(&accounts[from].lock);
			if (i == 0)
				say("moved", seen);
		}
	}
	close(random);
	return NULL;
}

static void *audit(void *unused)
{
	(void)unused;
	while (going_on()) {
		int64_t sum = 0;
		uint64_t hash = 0;
		for (int i = 0; i < ACCOUNTS; i++)
			pthread_mutex_lock(&accounts[i].lock);
		for (int i = 0; i < ACCOUNTS; i++) {
			sum += accounts[i].money;
			hash = mix(hash, accounts[i].history);
		}
		for (int i = 0; i < ACCOUNTS; i++)
			pthread_mutex_unlock(&accounts[i].lock);
		MUST(sum == (int64_t)START * ACCOUNTS);
		audits++;
		say("audit", hash);
		nap(500);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[TELLERS + 1];
	begin(argc, argv);
	for (int i = 0; i < ACCOUNTS; i++) {
		pthread_mutex_init(&accounts[i].lock, NULL);
		accounts[i].money = START;
	}
	for (uint64_t i = 0; i <= TELLERS; i++)
		MUST(pthread_create(&threads[i], NULL, i == 0 ? audit : tell, (void *)i) == 0);
	for (int i = 0; i <= TELLERS; i++)
		pthread_join(threads[i], NULL);
	MUST(audits > 0);
	say("audits", audits);
	return finish();
}
