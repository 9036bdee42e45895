/* What the machine says about itself: sizes, processors, names, used time. Another host would say something else. */
#include "recorder/facts.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Of LOG_USAGE, beside getrusage()'s -1, 0 and 1. Part of what a log means. */
enum { FACT_SYSINFO = 16, FACT_SYSCONF, FACT_TIMES, FACT_CLOCK, FACT_AFFINITY, FACT_UNAME, FACT_LOAD, FACT_ITIMER, FACT_TIMERFD };

long ft_fact(uint8_t kind, uint32_t object, long (*real)(void *), void *arguments, void *out, size_t bytes)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return real(arguments);
		if (mode == LOG_MODE_RECORD) {
			long result = real(arguments);
			int error = errno;
			if (ft_put_call(kind, object, result, error, out, result >= 0 ? bytes : 0)) {
				errno = error;
				return result;
			}
			continue;
		}
		const struct log_event *e = ft_take(kind, object);
		if (e == NULL)
			continue;
		if (e->call.result >= 0 && e->payload_bytes >= bytes)
			memcpy(out, e->payload, bytes);
		return ft_result(e);
	}
}

static long real_sysinfo(void *out) { return ft_syscall(SYS_sysinfo, out); }

FT_PUBLIC int sysinfo(struct sysinfo *out)
{
	return FT_CALLER_IS_RECORDED ? (int)ft_fact(LOG_USAGE, FACT_SYSINFO, real_sysinfo, out, out, sizeof *out) : (int)real_sysinfo(out);
}

/* ---- numbers of processors and pages */

struct number {
	long (*ask)(int);
	int name;
	long answer;
};

static long real_number(void *number)
{
	struct number *n = number;
	n->answer = n->ask(n->name);
	return 0;
}

static long ask_sysconf(int name)
{
	static long (*real)(int);
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "sysconf");
	return real(name);
}

static long number(int name)
{
	struct number n = {.ask = ask_sysconf, .name = name};
	ft_fact(LOG_USAGE, FACT_SYSCONF, real_number, &n, &n.answer, sizeof n.answer);
	return n.answer;
}

static bool is_of_the_machine(int name)
{
	return name == _SC_NPROCESSORS_CONF || name == _SC_NPROCESSORS_ONLN || name == _SC_PHYS_PAGES || name == _SC_AVPHYS_PAGES;
}

FT_PUBLIC long sysconf(int name)
{
	return is_of_the_machine(name) && FT_CALLER_IS_RECORDED ? number(name) : ask_sysconf(name);
}

#define NUMBER(type, function, name) \
	FT_PUBLIC type function(void) { return (type)(FT_CALLER_IS_RECORDED ? number(name) : ask_sysconf(name)); }
NUMBER(int, get_nprocs, _SC_NPROCESSORS_ONLN)
NUMBER(int, get_nprocs_conf, _SC_NPROCESSORS_CONF)
NUMBER(long, get_phys_pages, _SC_PHYS_PAGES)
NUMBER(long, get_avphys_pages, _SC_AVPHYS_PAGES)

struct affinity {
	pid_t pid;
	size_t bytes;
	cpu_set_t *set;
};

static long real_affinity(void *arguments)
{
	struct affinity *a = arguments;
	long filled = ft_syscall(SYS_sched_getaffinity, (long)a->pid, a->bytes, a->set);
	if (filled < 0)
		return filled;
	memset((uint8_t *)a->set + filled, 0, a->bytes - (size_t)filled);
	return 0;
}

FT_PUBLIC int sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set)
{
	struct affinity a = {pid, bytes, set};
	if (!FT_CALLER_IS_RECORDED || bytes > FT_INPUT_BYTES_MAX)
		return (int)real_affinity(&a);
	return (int)ft_fact(LOG_USAGE, FACT_AFFINITY, real_affinity, &a, set, bytes);
}

/* ---- names */

static long real_uname(void *out) { return ft_syscall(SYS_uname, out); }

FT_PUBLIC int uname(struct utsname *out)
{
	return FT_CALLER_IS_RECORDED ? (int)ft_fact(LOG_USAGE, FACT_UNAME, real_uname, out, out, sizeof *out) : (int)real_uname(out);
}

FT_PUBLIC int gethostname(char *out, size_t bytes)
{
	struct utsname names;
	long result = FT_CALLER_IS_RECORDED ? ft_fact(LOG_USAGE, FACT_UNAME, real_uname, &names, &names, sizeof names) : real_uname(&names);
	if (result != 0)
		return -1;
	size_t length = strnlen(names.nodename, sizeof names.nodename);
	memcpy(out, names.nodename, length < bytes ? length + 1 : bytes);
	if (length < bytes)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* ---- used time */

struct used {
	struct tms tms;
	clock_t result;
};

static long real_times(void *used)
{
	struct used *u = used;
	u->result = (clock_t)ft_syscall(SYS_times, &u->tms);
	return 0;
}

FT_PUBLIC clock_t times(struct tms *out)
{
	struct used u = {0};
	if (FT_CALLER_IS_RECORDED)
		ft_fact(LOG_USAGE, FACT_TIMES, real_times, &u, &u, sizeof u);
	else
		real_times(&u);
	if (out != NULL)
		*out = u.tms;
	return u.result;
}

static long real_clock(void *out)
{
	struct timespec used;
	if (REAL(clock_gettime)(CLOCK_PROCESS_CPUTIME_ID, &used) != 0)
		return -1;
	*(clock_t *)out = used.tv_sec * CLOCKS_PER_SEC + used.tv_nsec / (1000000000 / CLOCKS_PER_SEC);
	return 0;
}

FT_PUBLIC clock_t clock(void)
{
	clock_t used;
	long result = FT_CALLER_IS_RECORDED ? ft_fact(LOG_USAGE, FACT_CLOCK, real_clock, &used, &used, sizeof used) : real_clock(&used);
	return result == 0 ? used : (clock_t)-1;
}

struct load {
	double average[3];
};

static long real_load(void *out)
{
	struct sysinfo info;
	if (real_sysinfo(&info) != 0)
		return -1;
	for (int i = 0; i < 3; i++)
		((struct load *)out)->average[i] = (double)info.loads[i] / (1 << SI_LOAD_SHIFT);
	return 0;
}

FT_PUBLIC int getloadavg(double *out, int count)
{
	struct load load;
	long result = FT_CALLER_IS_RECORDED ? ft_fact(LOG_USAGE, FACT_LOAD, real_load, &load, &load, sizeof load) : real_load(&load);
	for (int i = 0; result == 0 && i < count && i < 3; i++)
		out[i] = load.average[i];
	return result != 0 ? -1 : count < 3 ? count : 3;
}

/* ---- what is left of a timer */

struct timer {
	int which;
	void *out;
};

static long real_getitimer(void *arguments)
{
	struct timer *t = arguments;
	return ft_syscall(SYS_getitimer, (long)t->which, t->out);
}

FT_PUBLIC int getitimer(__itimer_which_t which, struct itimerval *out)
{
	struct timer t = {(int)which, out};
	return (int)(FT_CALLER_IS_RECORDED ? ft_fact(LOG_USAGE, FACT_ITIMER, real_getitimer, &t, out, sizeof *out) : real_getitimer(&t));
}

static long real_timerfd_gettime(void *arguments)
{
	struct timer *t = arguments;
	return ft_syscall(SYS_timerfd_gettime, (long)t->which, t->out);
}

FT_PUBLIC int timerfd_gettime(int fd, struct itimerspec *out)
{
	struct timer t = {fd, out};
	return (int)(FT_CALLER_IS_RECORDED ? ft_fact(LOG_USAGE, FACT_TIMERFD, real_timerfd_gettime, &t, out, sizeof *out) :
	                                     real_timerfd_gettime(&t));
}
