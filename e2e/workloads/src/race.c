/*
 * Servers with a data race that happens seldom, and one without: `ft-race PORT none|counter|flag`. Request `<n>`, counting from 1 on
 * each connection; reply `ok <n> <requests of this connection> <value>`, where the value hangs on which thread was first:
 *
 *   counter  once a second each thread adds to a counter that belongs to nobody; `+<seen>` in the reply to the request at
 *            which it did, `=<last seen>` in the others. Two that meet lose one of their additions: that is the race, and legal
 *   none     the same with the lock that it lacks: each number is seen once, and none is left out
 *   flag     every three seconds a thread puts new settings in place, by a pointer that the others read without a lock, as
 *            programs do with settings that are read again; the reply is `<generation>:<entry>`, one of its sixteen
 *
 * A value that reached a client and is another in a replay is an output that differs.
 */
#include "net.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, BUMP_EVERY_MS = 1000, RENEW_EVERY_MS = 3000, ENTRIES = 16, SETTINGS = 256 };

static enum { NONE, COUNTER, FLAG } kind;

/* Of one thread each. */
static struct {
	uint64_t bumped_ms;
	uint64_t seen;
} workers[THREADS];

static volatile uint64_t counter;
static pthread_mutex_t counter_lock = PTHREAD_MUTEX_INITIALIZER;

/* A ring, so that nobody still reads settings when they are written anew, 13 minutes later. */
static struct settings {
	uint64_t generation;
	uint64_t entries[ENTRIES];
} settings[SETTINGS];
static struct settings *volatile current = settings;

/* The client computes the same. */
static uint64_t entry_of(uint64_t generation, uint64_t place)
{
	return (generation * ENTRIES + place) * 2654435761u % 1000003u;
}

static uint64_t now_ms(void)
{
	struct timespec t;
	if (clock_gettime(CLOCK_MONOTONIC, &t) < 0) die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static uint64_t bump(void)
{
	uint64_t seen = counter;
	counter = seen + 1;
	return seen;
}

static uint64_t bump_locked(void)
{
	if (pthread_mutex_lock(&counter_lock) != 0) die("pthread_mutex_lock");
	uint64_t seen = bump();
	if (pthread_mutex_unlock(&counter_lock) != 0) die("pthread_mutex_unlock");
	return seen;
}

static char count(unsigned worker)
{
	uint64_t ms = now_ms();
	/* Another host's clock may be behind. */
	if (ms >= workers[worker].bumped_ms && ms < workers[worker].bumped_ms + BUMP_EVERY_MS) return '=';
	workers[worker].bumped_ms = ms;
	workers[worker].seen = kind == NONE ? bump_locked() : bump();
	return '+';
}

static size_t answer(struct connection *connection, char *line, char *reply, size_t reply_bytes_max)
{
	char *end = NULL;
	unsigned long long n = strtoull(line, &end, 10);
	connection->received++;
	if (end == line || *end != '\0' || n != connection->received)
		return reply_text(reply, reply_bytes_max, "bad sequence=%llu expected=%" PRIu64, n, connection->received);
	if (kind == FLAG) {
		const struct settings *now = current;
		return reply_text(reply, reply_bytes_max, "ok %llu %" PRIu64 " %" PRIu64 ":%" PRIu64, n, connection->received,
				  now->generation, now->entries[n % ENTRIES]);
	}
	char sign = count(connection->worker);
	return reply_text(reply, reply_bytes_max, "ok %llu %" PRIu64 " %c%" PRIu64, n, connection->received, sign,
			  workers[connection->worker].seen);
}

static void put_in_place(uint64_t generation)
{
	struct settings *next = &settings[generation % SETTINGS];
	next->generation = generation;
	for (uint64_t i = 0; i < ENTRIES; i++)
		next->entries[i] = entry_of(generation, i);
	current = next;
}

/* Woken by input and not by time: after that the recorder would let this thread run alone, and there would be no race. */
static void *renew(void *unused)
{
	(void)unused;
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (timer < 0) die("timerfd_create");
	for (uint64_t generation = 1;; generation++) {
		struct itimerspec soon = {.it_value.tv_sec = RENEW_EVERY_MS / 1000};
		uint64_t times;
		if (timerfd_settime(timer, 0, &soon, NULL) < 0) die("timerfd_settime");
		if (read(timer, &times, sizeof times) != sizeof times) die("read");
		put_in_place(generation);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	uint16_t port = port_argument(argc, argv);
	const char *name = argc > 2 ? argv[2] : "";
	if (strcmp(name, "none") == 0) {
		kind = NONE;
	} else if (strcmp(name, "counter") == 0) {
		kind = COUNTER;
	} else if (strcmp(name, "flag") == 0) {
		kind = FLAG;
		put_in_place(0);
		start_thread(renew, NULL);
	} else {
		fprintf(stderr, "usage: %s PORT none|counter|flag\n", argv[0]);
		return 2;
	}
	serve_threads(port, THREADS, answer);
}
