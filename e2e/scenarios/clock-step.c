/*
 * Steps the wall clock of one program. All hosts of the lab share the machine's clock, and a time namespace has no
 * wall clock of its own, so the step is put between the program and libc: the number of seconds in the file named by
 * FT_CLOCK_STEP_FILE is added to CLOCK_REALTIME. The monotonic clocks stay, as they do when a real clock is stepped.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long step_seconds(void)
{
	static const char *path;
	char text[32] = "";
	if (!path) path = getenv("FT_CLOCK_STEP_FILE");
	if (!path) return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return 0;
	ssize_t length = read(fd, text, sizeof text - 1);
	close(fd);
	return length > 0 ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long result = syscall(SYS_clock_gettime, clock, now);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += step_seconds();
	return (int)result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec precise;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec precise;
	if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return (time_t)-1;
	if (now) *now = precise.tv_sec;
	return precise.tv_sec;
}
