/*
 * Signals that interrupt writes to a full socket: what was written then, and when the handler runs, is the same again. The
 * handler itself writes to a pipe, as servers' do.
 */
#include <signal.h>
#include <sys/time.h>

#include "pair.h"

enum { BLOCK_BYTES = 96 << 10 };
static volatile sig_atomic_t alarms;
static int self_fds[2];
static uint64_t taken;

static void on_alarm(int number)
{
	char byte = (char)number;
	int error = errno;
	alarms++;
	if (write(self_fds[1], &byte, 1) < 0 && errno != EAGAIN)
		failures = 1;
	errno = error;
}

static void *reader(void *unused)
{
	static char bytes[BLOCK_BYTES];
	ssize_t got = 1;
	(void)unused;
	while (going_on() || (got > 0 && !failures)) {
		got = recv(there, bytes, sizeof bytes, 0);
		for (ssize_t i = 0; i < got; i += 512)
			taken = mix(taken, (uint8_t)bytes[i]);
		nap(700);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static char bytes[BLOCK_BYTES], scrap[64];
	struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
	struct itimerval often = {{0, 1500}, {0, 1500}};
	pthread_t thread;
	sigset_t alarm_set;
	uint64_t hash = 0, interrupted = 0, partly = 0;
	begin(argc, argv);
	join_them();
	MUST(pipe2(self_fds, O_NONBLOCK) == 0);
	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_set, NULL);
	MUST(pthread_create(&thread, NULL, reader, NULL) == 0);
	pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
	MUST(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
	for (uint64_t n = 1; going_on(); n++) {
		sig_atomic_t before = alarms;
		memset(bytes, (int)(n & 0xff), sizeof bytes);
		ssize_t put = send(here, bytes, sizeof bytes, MSG_NOSIGNAL);
		bool is_interrupted = put < 0 && errno == EINTR;
		interrupted += is_interrupted;
		partly += put > 0 && put < (ssize_t)sizeof bytes;
		/* An interrupted call returns after its handler, with no call in between that could be a place for it. */
		MUST(!is_interrupted || alarms > before);
		hash = mix(hash, (uint64_t)put + (uint64_t)alarms * 100003);
		ssize_t rung = read(self_fds[0], scrap, sizeof scrap);
		hash = mix(hash, (uint64_t)rung);
		if (put < 0 && !is_interrupted)
			nap(500); /* after a replay the connection may be gone */
		say("hash", mix(hash, interrupted * 1000 + partly));
	}
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	pthread_join(thread, NULL);
	MUST(alarms > 0 && interrupted + partly > 0);
	say("taken", mix(taken, hash));
	return finish();
}
