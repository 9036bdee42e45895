/* Signals for threads that wait for a condition, and for a thread's end: their handlers run meanwhile, or nothing goes on. */
#include <pthread.h>
#include <signal.h>

#include "program.h"

static int handled[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_t boss;
static bool go;

static void on_signal(int number)
{
	char byte = (char)number;
	int error = errno;
	if (write(handled[1], &byte, 1) != 1)
		failures = 1;
	errno = error;
}

static char await_handler(void)
{
	char byte = 0;
	ssize_t got;
	while ((got = read(handled[0], &byte, 1)) < 0 && errno == EINTR)
		;
	MUST(got == 1);
	return byte;
}

static void *waits(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	while (!go)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Its boss waits for its end by now, or soon. */
static void *calls(void *out)
{
	nap(300);
	MUST(pthread_kill(boss, SIGUSR2) == 0);
	*(char *)out = await_handler();
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	uint64_t hash = 0;
	begin(argc, argv);
	boss = pthread_self();
	MUST(pipe(handled) == 0 && sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
	while (going_on() && !failures) {
		pthread_t waiter, caller;
		char called = 0;
		go = false;
		MUST(pthread_create(&waiter, NULL, waits, NULL) == 0);
		nap(300);
		MUST(pthread_kill(waiter, SIGUSR1) == 0);
		hash = mix(hash, (uint8_t)await_handler());
		pthread_mutex_lock(&lock);
		go = true;
		pthread_cond_signal(&changed);
		pthread_mutex_unlock(&lock);
		MUST(pthread_join(waiter, NULL) == 0);
		MUST(pthread_create(&caller, NULL, calls, &called) == 0 && pthread_join(caller, NULL) == 0);
		hash = mix(hash, (uint8_t)called);
		say("hash", hash);
	}
	return finish();
}
