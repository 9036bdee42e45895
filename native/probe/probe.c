/*
 * ftprobe: the smallest program that has what a service has: an established TCP connection and an output. It
 * sends a number through the connection, takes it out at the other end, prints it, and goes on with the next;
 * it ends with an error as soon as anything is not as it was. Preflight dumps and restores it.
 *
 * `ftprobe tracking [auto|soft-dirty]`: says how written memory will be found on this host: `ok tracking=wp-async`, or `soft-dirty` or `full` with `reason=…`,
 * why it is nothing better.
 *
 * `ftprobe vfork`: the same from a vfork()ed child, whose parent then is in uninterruptible sleep: what no
 * debugger can stop, and no dump.
 *
 * `ftprobe still [MIB]`: prints 1 and does nothing any more, so that any two dumps of it are the same; its memory has every
 * shape that a dump tells apart, and so much more.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "line/line.h"
#include "track/tracker.h"

enum { EVERY_NS = 5000000, AREA_BYTES = 2 << 20, PAGE_BYTES = 4096 };
#define STEP_NS_MAX INT64_C(60000000000)

static int connect_to_self(int ends[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) != 0)
		return -1;
	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (ends[0] < 0 || connect(ends[0], (struct sockaddr *)&address, sizeof address) != 0)
		return -1;
	ends[1] = accept(listener, NULL, NULL);
	return ends[1] < 0 ? -1 : 0;
}

static int exchange(const int ends[2], uint64_t number)
{
	uint64_t got = 0;
	if (send(ends[0], &number, sizeof number, MSG_NOSIGNAL) != sizeof number)
		return -1;
	if (recv(ends[1], &got, sizeof got, MSG_WAITALL) != sizeof got)
		return -1;
	return got == number ? 0 : -1;
}

/* Monotonic means: on whatever host we are. */
static int64_t step_of_clock_ns(void)
{
	static int64_t last_ns;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	int64_t step_ns = last_ns == 0 ? 0 : now_ns - last_ns;
	last_ns = now_ns;
	return step_ns;
}

static int count(const int ends[2])
{
	for (uint64_t number = 1;; number++) {
		char line[32];
		const struct timespec pause = { .tv_nsec = EVERY_NS };
		if (exchange(ends, number) != 0) {
			perror("ftprobe: the connection was lost");
			return 1;
		}
		int64_t step_ns = step_of_clock_ns();
		if (step_ns < 0 || step_ns > STEP_NS_MAX) {
			fprintf(stderr, "ftprobe: the clock jumped by %" PRId64 " ns\n", step_ns);
			return 1;
		}
		int length = snprintf(line, sizeof line, "%" PRIu64 "\n", number);
		if (write(STDOUT_FILENO, line, (size_t)length) != length)
			return 1;
		nanosleep(&pause, NULL);
	}
}

/* Every `every`th page is written. */
static int area(int flags, int advice, size_t every)
{
	unsigned char *bytes = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
	if (bytes == MAP_FAILED || (advice >= 0 && madvise(bytes, AREA_BYTES, advice) != 0))
		return -1;
	for (size_t at = 0; at < AREA_BYTES; at += every * PAGE_BYTES)
		memset(bytes + at, (int)(at / PAGE_BYTES % 251 + 1), PAGE_BYTES);
	/* So that neighbours do not become one. */
	return mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0) == MAP_FAILED ? -1 : 0;
}

static void *rest(void *unused)
{
	for (;;)
		pause();
	return unused;
}

/* In one area, and no two pages alike. */
static int fill(size_t mib)
{
	unsigned char *bytes = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	if (bytes == MAP_FAILED)
		return -1;
	(void)madvise(bytes, mib << 20, MADV_NOHUGEPAGE); /* where there are none, it is only not so */
	for (size_t at = 0; at < mib << 20; at += PAGE_BYTES)
		memcpy(bytes + at, &at, sizeof at);
	return 0;
}

static int be_still(size_t mib)
{
	pthread_t thread;
	/* On one processor: the kernel writes its number into the memory of each thread. */
	cpu_set_t processor;
	CPU_ZERO(&processor);
	CPU_SET(sched_getcpu(), &processor);
	if (sched_setaffinity(0, sizeof processor, &processor) != 0)
		return 1;
	if (area(MAP_PRIVATE, -1, 1) != 0 || area(MAP_PRIVATE, MADV_NOHUGEPAGE, 2) != 0 || area(MAP_PRIVATE, MADV_DONTFORK, 7) != 0 ||
	    area(MAP_PRIVATE, MADV_WIPEONFORK, 3) != 0 || area(MAP_PRIVATE | MAP_NORESERVE, MADV_DONTDUMP, 64) != 0 ||
	    area(MAP_SHARED, -1, 5) != 0 ||
	    (mib > 0 && fill(mib) != 0) || pthread_create(&thread, NULL, rest, NULL) != 0)
		return 1;
	if (write(STDOUT_FILENO, "1\n", 2) != 2)
		return 1;
	rest(NULL);
	return 0;
}

static int say_tracking(const char *wanted)
{
	char why[TRACK_WHY_BYTES];
	struct line_writer line;
	enum track_mode mode = track_choose(strcmp(wanted, "soft-dirty") == 0 ? TRACK_SOFT_DIRTY : TRACK_WP_ASYNC, false, why, sizeof why);
	line_begin(&line, "ok");
	line_raw(&line, "tracking", track_called(mode));
	if (why[0] != 0)
		line_text(&line, "reason", why);
	line_end(&line);
	return write(STDOUT_FILENO, line.text, line.length) == (ssize_t)line.length ? 0 : 1;
}

int main(int argc, char **argv)
{
	int ends[2];
	if (argc > 1 && strcmp(argv[1], "tracking") == 0)
		return say_tracking(argc > 2 ? argv[2] : "auto");
	if (connect_to_self(ends) != 0) {
		perror("ftprobe");
		return 1;
	}
	if (argc > 1 && strcmp(argv[1], "vfork") == 0 && vfork() != 0)
		return 1; /* the child never ends before us */
	if (argc > 1 && strcmp(argv[1], "still") == 0)
		return be_still(argc > 2 ? strtoul(argv[2], NULL, 10) : 0);
	return count(ends);
}
