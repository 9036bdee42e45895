/* Nanoseconds a call, medians of rounds: run it with and without the recorder (see docs/recorder.md). */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 9, CALLS = 20000 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int zero, null;
static char bytes[64];

static void ask_clock(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
}
static void take_lock(void)
{
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
}
static void read_input(void) { if (read(zero, bytes, sizeof bytes) < 0) abort(); }
static void write_output(void) { if (write(null, bytes, sizeof bytes) < 0) abort(); }

static int ascending(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void measure(const char *name, void (*call)(void))
{
	double ns[ROUNDS];
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t began = now_ns();
		for (int i = 0; i < CALLS; i++)
			call();
		ns[round] = (double)(now_ns() - began) / CALLS;
	}
	qsort(ns, ROUNDS, sizeof *ns, ascending);
	fprintf(stderr, "%s %.1f\n", name, ns[ROUNDS / 2]);
}

int main(void)
{
	zero = open("/dev/zero", O_RDONLY);
	/* The results go to stderr: what is written to stdout is what is measured, best to /dev/null. */
	null = 1;
	measure("clock_gettime", ask_clock);
	measure("mutex lock+unlock", take_lock);
	measure("read 64 bytes", read_input);
	measure("write 64 bytes", write_output);
	return 0;
}
