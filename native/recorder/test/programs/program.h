/*
 * What the recorder's test programs share. Each runs for argv[1] milliseconds, writes what it computes to its standard
 * output (where a replay compares it), checks its own invariant, and at last makes the file argv[2], if there is one.
 */
#ifndef FT_TEST_PROGRAM_H
#define FT_TEST_PROGRAM_H
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *result_path;
static uint64_t until_ms;
static volatile int failures;
static char complaint[256];

static inline uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static inline void begin(int argc, char **argv)
{
	until_ms = now_ms() + (argc > 1 ? (uint64_t)atol(argv[1]) : 200);
	result_path = argc > 2 ? argv[2] : NULL;
}

static inline bool going_on(void) { return now_ms() < until_ms; }

static inline uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 29;
}

static inline void say(const char *what, uint64_t value)
{
	char line[96];
	int bytes = snprintf(line, sizeof line, "%s %016llx\n", what, (unsigned long long)value);
	if (write(1, line, (size_t)bytes) != bytes)
		failures = 1;
}

#define MUST(condition) \
	do { \
		if (!(condition)) { \
			if (!failures) \
				snprintf(complaint, sizeof complaint, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, \
				         strerror(errno)); \
			failures = 1; \
		} \
	} while (0)

static inline int finish(void)
{
	const char *text = failures ? complaint : "ok\n";
	if (result_path != NULL) {
		int fd = open(result_path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
		if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) != 0)
			return 2;
	}
	return failures;
}

static inline void nap(long us)
{
	struct timespec t = {0, us * 1000};
	nanosleep(&t, NULL);
}
#endif
