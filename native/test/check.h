/*
 * The test harness of the native code: a test is a function, a check is a line.
 *
 *   TEST(parses_a_verb) { CHECK(...); CHECK_EQ(got, want); CHECK_STR(got, want); }
 *   int main(void) { RUN(parses_a_verb); return check_report(); }
 *
 * A failed check ends its test, not the program. The last line is "N passed, N failed".
 */
#ifndef FT_TEST_CHECK_H
#define FT_TEST_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int check_passed, check_failed, check_bad;

#define TEST(name) static void name(void)

#define CHECK(condition)                                                        \
	do {                                                                    \
		if (!(condition)) {                                             \
			printf("  %s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			check_bad = 1;                                          \
			return;                                                 \
		}                                                               \
	} while (0)

#define CHECK_EQ(got, want)                                                     \
	do {                                                                    \
		int64_t check_got = (int64_t)(got), check_want = (int64_t)(want); \
		if (check_got != check_want) {                                  \
			printf("  %s:%d: %s is %" PRId64 ", not %" PRId64 "\n", __FILE__, __LINE__, \
			       #got, check_got, check_want);                    \
			check_bad = 1;                                          \
			return;                                                 \
		}                                                               \
	} while (0)

#define CHECK_STR(got, want)                                                    \
	do {                                                                    \
		const char *check_got = (got), *check_want = (want);            \
		if (strcmp(check_got, check_want) != 0) {                       \
			printf("  %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #got, check_got, \
			       check_want);                                     \
			check_bad = 1;                                          \
			return;                                                 \
		}                                                               \
	} while (0)

#define RUN(name)                                                               \
	do {                                                                    \
		check_bad = 0;                                                  \
		name();                                                         \
		if (check_bad) {                                                \
			check_failed++;                                         \
			printf("FAIL %s\n", #name);                             \
		} else {                                                        \
			check_passed++;                                         \
		}                                                               \
		fflush(stdout);                                                 \
	} while (0)

static inline int check_report(void)
{
	printf("%d passed, %d failed\n", check_passed, check_failed);
	return check_failed == 0 && check_passed > 0 ? 0 : 1;
}

/* Deterministic randomness for bounded fuzzing: the seed is in the test's source. */
static inline uint64_t check_random(uint64_t *state)
{
	uint64_t x = *state;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

#endif
