/*
 * Children. A child runs unrecorded (a snapshot writer, a shell). In a replay it is made again and does its work again; the
 * pids that the application was told stay as they were, and are translated where the kernel is asked.
 */
#include "recorder/real.h"

#include <sys/syscall.h>

enum { CHILDREN_MAX = 256 };

static struct {
	pid_t told, real;
} children[CHILDREN_MAX];

static pid_t real_of(pid_t told)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (told > 0 && children[i].told == told)
			return children[i].real;
	return told;
}

static void remember(pid_t told, pid_t real)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i].told == 0 || children[i].told == told) {
			children[i].told = told;
			children[i].real = real;
			return;
		}
}

static void forget(pid_t told)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i].told == told)
			children[i].told = 0;
}

FT_PUBLIC pid_t fork(void)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(fork)();
		const struct log_event *e = NULL;
		if (mode == LOG_MODE_REPLAY && (e = ft_take(LOG_FORK, 0)) == NULL)
			continue;
		pid_t child = e != NULL && e->call.result < 0 ? -1 : REAL(fork)();
		int error = errno;
		if (child == 0) {
			ft_me = NULL;
			/* Its parent looks for files by it. */
			if (e != NULL)
				remember(ft_told_pid = e->call.result, (pid_t)ft_syscall(SYS_getpid));
			return 0;
		}
		if (e != NULL) {
			if (child > 0)
				remember(e->call.result, child);
			return (pid_t)ft_result(e);
		}
		if (ft_put_turn(LOG_FORK, 0, child, error, LOG_OBJECT_DESCRIPTORS, NULL, 0)) {
			errno = error;
			return child;
		}
		/* Restored with the child: the record names it. */
		while ((e = ft_take(LOG_FORK, 0)) == NULL)
			if (ft_mode_word() != LOG_MODE_RECORD || ft_put_turn(LOG_FORK, 0, child, error, LOG_OBJECT_DESCRIPTORS, NULL, 0)) {
				errno = error;
				return child;
			}
		remember(e->call.result, child);
		return (pid_t)ft_result(e);
	}
}

struct waited {
	int status;
	struct rusage usage;
};

static pid_t wait_for(pid_t child, int *status, int options, struct rusage *usage)
{
	FT_CALL {
		struct waited w = {0};
		if (mode != LOG_MODE_REPLAY) {
			ft_real_begin();
			pid_t result = REAL(wait4)(child > 0 ? real_of(child) : child, &w.status, options, &w.usage);
			int error = errno;
			ft_real_end();
			for (int i = 0; result > 0 && i < CHILDREN_MAX; i++)
				if (children[i].told != 0 && children[i].real == result)
					result = children[i].told;
			if (mode == LOG_MODE_RECORD &&
			    !ft_put_call(LOG_WAIT_CHILD, (uint32_t)child, result, error, &w, result > 0 ? sizeof w : 0))
				continue;
			if (result > 0)
				forget(result);
			if (status != NULL)
				*status = w.status;
			if (usage != NULL)
				*usage = w.usage;
			errno = error;
			return result;
		}
		const struct log_event *e = ft_take(LOG_WAIT_CHILD, (uint32_t)child);
		if (e == NULL)
			continue;
		if (e->payload_bytes >= sizeof w)
			memcpy(&w, e->payload, sizeof w);
		if (e->call.result > 0) {
			/* The thread does not count as still: the child may only have to be scheduled, and end it does. */
			while (REAL(wait4)(real_of(e->call.result), NULL, 0, NULL) < 0 && errno == EINTR)
				;
			forget(e->call.result);
		}
		if (status != NULL)
			*status = w.status;
		if (usage != NULL)
			*usage = w.usage;
		return (pid_t)ft_result(e);
	}
}

FT_PUBLIC pid_t waitpid(pid_t child, int *status, int options) { return wait_for(child, status, options, NULL); }
FT_PUBLIC pid_t wait4(pid_t child, int *status, int options, struct rusage *usage)
{
	return wait_for(child, status, options, usage);
}
FT_PUBLIC pid_t wait3(int *status, int options, struct rusage *usage) { return wait_for(-1, status, options, usage); }
FT_PUBLIC pid_t wait(int *status) { return wait_for(-1, status, 0, NULL); }

FT_PUBLIC int kill(pid_t pid, int number)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(kill)(real_of(pid), number);
		if (mode == LOG_MODE_RECORD) {
			int result = REAL(kill)(real_of(pid), number), error = errno;
			if (ft_put_call(LOG_IDENTITY, 3, result, error, NULL, 0)) {
				errno = error;
				return result;
			}
			continue;
		}
		const struct log_event *e = ft_take(LOG_IDENTITY, 3);
		if (e == NULL)
			continue;
		if (real_of(pid) != pid)
			REAL(kill)(real_of(pid), number);
		return (int)ft_result(e);
	}
}
