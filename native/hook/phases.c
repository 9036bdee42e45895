#include "hook/phases.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct {
	bool running;
	enum phase now;
	uint64_t since_us, cpu_from_us, delay_from_ns;
	int schedstat; /* kept open: 0 is not open */
	struct phases seen;
} state;

static uint64_t clock_now_us(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The second number of /proc/self/schedstat; 0 on a kernel without. */
static uint64_t delay_ns(void)
{
	char text[96];
	if (state.schedstat <= 0)
		state.schedstat = (int)syscall(SYS_openat, AT_FDCWD, "/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	ssize_t got = state.schedstat <= 0 ? -1 : pread(state.schedstat, text, sizeof text - 1, 0);
	if (got <= 0)
		return 0;
	text[got] = 0;
	char *second = strchr(text, ' ');
	return second == NULL ? 0 : strtoull(second, NULL, 10);
}

void phases_begin(void)
{
	state.delay_from_ns = delay_ns();
	state.cpu_from_us = clock_now_us(CLOCK_THREAD_CPUTIME_ID);
	state.since_us = clock_now_us(CLOCK_MONOTONIC);
	state.now = PHASE_SEIZE;
	state.running = true;
}

void phase_enter(enum phase phase)
{
	if (!state.running || phase == state.now)
		return;
	uint64_t now = clock_now_us(CLOCK_MONOTONIC);
	state.seen.us[state.now] += (uint32_t)(now - state.since_us);
	state.since_us = now;
	state.now = phase;
}

void phase_opened(const char *path)
{
	static const struct {
		const char *prefix;
		size_t length;
		enum phase phase;
	} signs[] = {
		{ "smaps", 5, PHASE_MAPS }, { "ids-", 4, PHASE_FILES }, { "pagemap-", 8, PHASE_PAGES }, { "core-", 5, PHASE_CORE },
	};
	if (!state.running)
		return;
	for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
		if (strncmp(path, signs[i].prefix, signs[i].length) == 0)
			phase_enter(signs[i].phase);
}

void phases_end(void)
{
	if (!state.running)
		return;
	phase_enter(PHASES - 1);
	state.seen.us[PHASES - 1] += (uint32_t)(clock_now_us(CLOCK_MONOTONIC) - state.since_us);
	state.seen.cpu_us = (uint32_t)(clock_now_us(CLOCK_THREAD_CPUTIME_ID) - state.cpu_from_us);
	state.seen.delay_us = (uint32_t)((delay_ns() - state.delay_from_ns) / 1000);
	state.running = false;
}

struct phases phases_seen(void)
{
	return state.seen;
}
