/* Time, chance and identity: everything small that the kernel says and the application cannot compute. */
#include "recorder/facts.h"

#include <limits.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/syscall.h>

enum { CLOCK_TIME = 64, IDENTITY_PID = 1, IDENTITY_PARENT = 2, IDENTITY_THREAD = 4, SLEEP_NANO = 1, SLEEP_CLOCK = 2 };

#define IS_RECORDED (ft_me != NULL && !ft_is_outsider(__builtin_return_address(0)))

static uint64_t ns_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

/*
 * Monotonic time goes on from what the log said last. Another host's is another; and a process restored by CRIU has the
 * clock of its checkpoint (a time namespace), which the replay has left behind.
 */
static uint64_t monotonic_offset_ns;

static bool is_monotonic(clockid_t clock)
{
	return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME;
}

static int read_clock(clockid_t clock, struct timespec *out)
{
	int result = REAL(clock_gettime)(clock, out);
	if (likely(monotonic_offset_ns == 0) || result != 0 || !is_monotonic(clock))
		return result;
	uint64_t ns = ns_of(out) + monotonic_offset_ns;
	out->tv_sec = (time_t)(ns / 1000000000u);
	out->tv_nsec = (long)(ns % 1000000000u);
	return 0;
}

/* An absolute time-out as the kernel's clock has it. */
const struct timespec *ft_deadline(clockid_t clock, const struct timespec *until, struct timespec *shifted)
{
	if (likely(monotonic_offset_ns == 0) || until == NULL || until->tv_sec < 0 || !is_monotonic(clock))
		return until;
	uint64_t ns = ns_of(until) > monotonic_offset_ns ? ns_of(until) - monotonic_offset_ns : 0;
	*shifted = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
	return shifted;
}

void ft_clocks_go_live(void)
{
	struct timespec now;
	uint64_t last_ns = 0;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		for (int c = 1; c < FT_CLOCKS; c++)
			if (ft_threads[i].clock_ns[c] > last_ns)
				last_ns = ft_threads[i].clock_ns[c];
	if (read_clock(CLOCK_MONOTONIC, &now) == 0 && ns_of(&now) < last_ns)
		monotonic_offset_ns += last_ns - ns_of(&now);
}

/* The clocks that are asked all the time are one word if they moved by less than four seconds. */
static int delta_of(uint32_t clock, uint8_t *kind)
{
	switch (clock) {
	case CLOCK_REALTIME: *kind = LOG_REALTIME_DELTA; return 0;
	case CLOCK_MONOTONIC: *kind = LOG_MONOTONIC_DELTA; return 1;
	case CLOCK_MONOTONIC_COARSE: *kind = LOG_COARSE_DELTA; return 2;
	default: return -1;
	}
}

static bool put_clock(uint32_t clock, uint64_t ns)
{
	struct ft_thread *t = ft_me;
	uint8_t kind;
	int index = delta_of(clock, &kind);
	if (index < 0)
		return ft_put_value(LOG_CLOCK, clock, ns);
	uint64_t delta = ns - t->clock_ns[index];
	bool done = delta <= UINT32_MAX && t->clock_ns[index] != 0 ? ft_put_bare(kind, (uint32_t)delta) :
	                                                             ft_put_value(LOG_CLOCK, clock, ns);
	if (done)
		t->clock_ns[index] = ns;
	return done;
}

static bool take_clock(uint32_t clock, uint64_t *ns)
{
	struct ft_thread *t = ft_me;
	uint8_t delta = 0, coming = ft_coming();
	if (coming == 0)
		return false;
	int index = delta_of(clock, &delta);
	bool is_delta = index >= 0 && coming == delta;
	const struct log_event *e = is_delta ? ft_take(delta, FT_ANY) : ft_take(LOG_CLOCK, clock);
	if (e == NULL)
		return false;
	*ns = is_delta ? t->clock_ns[index] + e->record.object : e->value;
	if (index >= 0)
		t->clock_ns[index] = *ns;
	ft_done(e);
	return true;
}

FT_PUBLIC int clock_gettime(clockid_t clock, struct timespec *out)
{
	if (!IS_RECORDED || clock < 0 || clock >= CLOCK_TIME)
		return REAL(clock_gettime)(clock, out);
	FT_CALL {
		uint64_t ns;
		if (mode == LOG_MODE_LIVE)
			return read_clock(clock, out);
		if (mode == LOG_MODE_RECORD) {
			if (read_clock(clock, out) != 0)
				return -1; /* a clock that does not exist: not here, and not there */
			if (put_clock((uint32_t)clock, ns_of(out)))
				return 0;
			continue;
		}
		if (!take_clock((uint32_t)clock, &ns))
			continue;
		out->tv_sec = (time_t)(ns / 1000000000u);
		out->tv_nsec = (long)(ns % 1000000000u);
		return 0;
	}
}

FT_PUBLIC int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	if (!IS_RECORDED)
		return REAL(gettimeofday)(out, zone);
	FT_CALL {
		uint64_t ns;
		if (mode == LOG_MODE_LIVE)
			return REAL(gettimeofday)(out, zone);
		if (mode == LOG_MODE_RECORD) {
			REAL(gettimeofday)(out, zone);
			if (put_clock(CLOCK_REALTIME, (uint64_t)out->tv_sec * 1000000000u + (uint64_t)out->tv_usec * 1000u))
				return 0;
			continue;
		}
		if (!take_clock(CLOCK_REALTIME, &ns))
			continue;
		out->tv_sec = (time_t)(ns / 1000000000u);
		out->tv_usec = (suseconds_t)(ns % 1000000000u / 1000u);
		return 0;
	}
}

FT_PUBLIC time_t time(time_t *out)
{
	if (!IS_RECORDED)
		return REAL(time)(out);
	FT_CALL {
		uint64_t seconds;
		if (mode == LOG_MODE_LIVE)
			return REAL(time)(out);
		if (mode == LOG_MODE_RECORD) {
			seconds = (uint64_t)REAL(time)(NULL);
			if (!put_clock(CLOCK_TIME, seconds))
				continue;
		} else if (!take_clock(CLOCK_TIME, &seconds)) {
			continue;
		}
		if (out != NULL)
			*out = (time_t)seconds;
		return (time_t)seconds;
	}
}

/* ---- sleeping: a replay does not */

static int slept(uint32_t kind, clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left)
{
	FT_CALL {
		if (mode == LOG_MODE_REPLAY) {
			const struct log_event *e = ft_take(LOG_SLEEP, kind);
			if (e == NULL)
				continue;
			if (left != NULL && e->payload_bytes >= sizeof *left)
				memcpy(left, e->payload, sizeof *left);
			int result = e->call.result;
			ft_done(e);
			ft_solo_replay_begin(ft_me, false);
			return result;
		}
		struct timespec rest = {0}, shifted;
		const struct timespec *until = flags & TIMER_ABSTIME ? ft_deadline(clock, wanted, &shifted) : wanted;
		ft_real_begin();
		int result = kind == SLEEP_NANO ? (REAL(nanosleep)(wanted, &rest) == 0 ? 0 : -errno) :
		                                  -REAL(clock_nanosleep)(clock, flags, until, &rest);
		ft_real_end();
		if (mode == LOG_MODE_RECORD &&
		    !ft_put_call(LOG_SLEEP, kind, result == 0 ? 0 : -1, -result, &rest, result != 0 ? sizeof rest : 0))
			continue;
		if (mode == LOG_MODE_RECORD)
			ft_solo_after_wait(ft_me, result == 0);
		if (left != NULL && result != 0)
			*left = rest;
		return result;
	}
}

FT_PUBLIC int nanosleep(const struct timespec *wanted, struct timespec *left)
{
	int result = slept(SLEEP_NANO, CLOCK_REALTIME, 0, wanted, left);
	if (result == 0)
		return 0;
	errno = -result;
	return -1;
}

FT_PUBLIC int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left)
{
	return -slept(SLEEP_CLOCK, clock, flags, wanted, left);
}

FT_PUBLIC int usleep(useconds_t us)
{
	struct timespec wanted = {us / 1000000, (long)(us % 1000000) * 1000};
	return nanosleep(&wanted, NULL);
}

FT_PUBLIC unsigned sleep(unsigned seconds)
{
	struct timespec wanted = {seconds, 0}, left = {0};
	return nanosleep(&wanted, &left) == 0 ? 0 : (unsigned)left.tv_sec;
}

/* ---- chance */

long ft_random(void *out, size_t bytes, unsigned flags)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(getrandom)(out, bytes, flags);
		if (mode == LOG_MODE_RECORD) {
			long result = REAL(getrandom)(out, bytes < FT_INPUT_BYTES_MAX ? bytes : FT_INPUT_BYTES_MAX, flags);
			int error = errno;
			if (ft_put_call(LOG_RANDOM, 0, result, error, out, result > 0 ? (size_t)result : 0)) {
				errno = error;
				return result;
			}
			continue;
		}
		const struct log_event *e = ft_take(LOG_RANDOM, 0);
		if (e == NULL)
			continue;
		if (e->call.result > 0)
			memcpy(out, e->payload, (size_t)e->call.result < bytes ? (size_t)e->call.result : bytes);
		return ft_result(e);
	}
}

FT_PUBLIC ssize_t getrandom(void *out, size_t bytes, unsigned flags)
{
	return IS_RECORDED ? ft_random(out, bytes, flags) : REAL(getrandom)(out, bytes, flags);
}

FT_PUBLIC int getentropy(void *out, size_t bytes)
{
	if (!IS_RECORDED || bytes > 256)
		return REAL(getentropy)(out, bytes);
	return ft_random(out, bytes, 0) == (long)bytes ? 0 : -1;
}

FT_PUBLIC void arc4random_buf(void *out, size_t bytes)
{
	uint8_t *at = out;
	while (bytes > 0) {
		long got = ft_me != NULL ? ft_random(at, bytes, 0) : REAL(getrandom)(at, bytes, 0);
		if (got > 0) {
			at += got;
			bytes -= (size_t)got;
		}
	}
}

FT_PUBLIC uint32_t arc4random(void)
{
	uint32_t value;
	arc4random_buf(&value, sizeof value);
	return value;
}

/* ---- identity and usage */

static long identity(uint32_t which, long real)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return real;
		if (mode == LOG_MODE_RECORD) {
			if (ft_put_call(LOG_IDENTITY, which, real, 0, NULL, 0))
				return real;
			continue;
		}
		const struct log_event *e = ft_take(LOG_IDENTITY, which);
		if (e == NULL)
			continue;
		if (which == IDENTITY_PID)
			atomic_store(&ft_shared.processes[ft_here].told, e->call.result);
		return ft_result(e);
	}
}

pid_t ft_told_pid;

FT_PUBLIC pid_t getpid(void)
{
	if (unlikely(ft_told_pid != 0))
		return ft_told_pid;
	return IS_RECORDED ? (pid_t)identity(IDENTITY_PID, ft_pid_told(REAL(getpid)())) : REAL(getpid)();
}

FT_PUBLIC pid_t getppid(void)
{
	return IS_RECORDED ? (pid_t)identity(IDENTITY_PARENT, ft_pid_told(REAL(getppid)())) : REAL(getppid)();
}

FT_PUBLIC pid_t gettid(void)
{
	pid_t real = (pid_t)ft_syscall(SYS_gettid);
	return IS_RECORDED ? (pid_t)identity(IDENTITY_THREAD, ft_pid_told(real)) : real;
}

/* Called with a number where the C library had no function: nginx asks for its thread's id so. */
FT_PUBLIC long syscall(long number, ...)
{
	if (number == SYS_gettid && IS_RECORDED)
		return identity(IDENTITY_THREAD, ft_pid_told((pid_t)ft_syscall(SYS_gettid)));
	va_list a;
	va_start(a, number);
	long result = ft_syscall_of(number, a);
	va_end(a);
	return result;
}

FT_PUBLIC int getrusage(__rusage_who_t who, struct rusage *out)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(getrusage)(who, out);
		if (mode == LOG_MODE_RECORD) {
			int result = REAL(getrusage)(who, out), error = errno;
			if (ft_put_call(LOG_USAGE, (uint32_t)who, result, error, out, result == 0 ? sizeof *out : 0)) {
				errno = error;
				return result;
			}
			continue;
		}
		const struct log_event *e = ft_take(LOG_USAGE, (uint32_t)who);
		if (e == NULL)
			continue;
		if (e->payload_bytes >= sizeof *out)
			memcpy(out, e->payload, sizeof *out);
		return (int)ft_result(e);
	}
}
