/*
 * Children: fork, wait, kill. In a replay a child is made again: one that is recorded (family.c) has its own lanes, another one
 * does its work again. The pids that the application was told stay as they were, and are translated where the kernel is asked.
 */
#include "recorder/real.h"

#include <sys/syscall.h>

enum { CHILDREN_MAX = 256 };

static struct {
	pid_t told, real;
	uint32_t lane;
} children[CHILDREN_MAX];

pid_t ft_real_pid(pid_t told)
{
	uint32_t process = ft_process_told(told);
	if (process != FT_NO_LANE)
		return atomic_load(&ft_shared.processes[process].pid);
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (told > 0 && children[i].told == told)
			return children[i].real;
	return told;
}

static void remember(pid_t told, pid_t real, uint32_t lane)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i].told == 0 || children[i].told == told) {
			children[i].told = told;
			children[i].real = real;
			children[i].lane = lane;
			return;
		}
}

/* FT_NO_LANE: it is not recorded, or nobody's. */
static uint32_t lane_of(pid_t told)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (told > 0 && children[i].told == told)
			return children[i].lane;
	return FT_NO_LANE;
}

/* It has been waited for. */
static void forget(pid_t told)
{
	uint32_t lane = lane_of(told);
	if (lane != FT_NO_LANE)
		ft_process_is_gone(lane, told);
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i].told == told)
			children[i].told = 0;
}

void ft_children_forget(void) { memset(children, 0, sizeof children); }

/* What a FORK says of a child that is recorded. */
struct forked {
	uint32_t lane, first_object, uses;
};

static struct forked forked_of(const struct log_event *e)
{
	struct forked f = {FT_NO_LANE, 0, 0};
	if (e->payload_bytes >= sizeof f)
		memcpy(&f, e->payload, sizeof f);
	if (f.lane != FT_NO_LANE && (f.lane == 0 || f.lane >= ft_log.lane_count || f.first_object < FT_OWN_OBJECTS ||
	                             f.first_object + (uint64_t)ft_channels_to_share() > LOG_OBJECTS_MAX))
		ft_corrupt("a child that cannot be");
	return f;
}

/* Recording: lane and ids for the child, if it is to be recorded. */
static struct forked choose(void)
{
	struct forked f = {FT_NO_LANE, 0, 0};
	if (!ft_may_record_child())
		return f;
	f.lane = ft_lane_new();
	uint32_t ids = ft_channels_to_share();
	if (f.lane == FT_NO_LANE)
		ft_lost(LOG_LOSS_LANES);
	else if (atomic_load(&ft_shared.last_object) + ids >= LOG_OBJECTS_MAX)
		ft_lost(LOG_LOSS_OBJECTS);
	else
		f.first_object = atomic_fetch_add(&ft_shared.last_object, ids) + 1;
	if (f.first_object == 0)
		return f;
	f.uses = ft_threads[f.lane].uses - 1;
	ft_child_is_to_come(f.lane, f.first_object);
	return f;
}

/* A copy with the child, or without any. The record says what the child is. */
static pid_t fork_is_logged(const struct forked *f, pid_t child, const struct log_event *e)
{
	struct forked logged = forked_of(e);
	if (child > 0 && (logged.lane != f->lane || logged.first_object != f->first_object || logged.uses != f->uses))
		ft_diverged(&(struct ft_sides){.what = "another lane for a child", .kind = LOG_FORK, .object = f->lane}, e);
	pid_t told = e->call.result;
	long result = ft_result(e);
	if (child > 0)
		remember(told, child, f->lane);
	if (f->lane != FT_NO_LANE)
		ft_child_has_come(f->lane, told, child);
	return (pid_t)result;
}

static pid_t fork_again(const struct forked *f, const struct log_event *e)
{
	if (f->lane != FT_NO_LANE) {
		ft_lane_claim(f->lane);
		ft_child_is_to_come(f->lane, f->first_object);
	}
	if (e->call.result < 0)
		return fork_is_logged(f, -1, e);
	pid_t told = e->call.result, child = ft_fork(f->lane);
	/* Its parent looks for files by it. */
	if (child == 0 && f->lane == FT_NO_LANE)
		remember(ft_told_pid = told, (pid_t)ft_syscall(SYS_getpid), FT_NO_LANE);
	if (child < 0)
		ft_diverged(&(struct ft_sides){.what = "a child that cannot be made", .kind = LOG_FORK}, e);
	return child == 0 ? 0 : fork_is_logged(f, child, e);
}

/* The record follows the real call: it says the child's pid. Until it is there the child waits. */
static pid_t fork_and_record(void)
{
	struct forked f = choose();
	if (ft_mode_word() == LOG_MODE_LIVE)
		return ft_fork(FT_NO_LANE);
	bool recorded = f.lane != FT_NO_LANE;
	pid_t child = ft_fork(f.lane);
	int error = errno;
	if (child == 0)
		return 0;
	const struct log_event *e = NULL;
	while (!ft_put_turn(LOG_FORK, 0, child, error, LOG_OBJECT_DESCRIPTORS, &f, recorded ? sizeof f : 0))
		if ((e = ft_take(LOG_FORK, 0)) != NULL)
			return fork_is_logged(&f, child, e);
	if (child > 0)
		remember(child, child, f.lane);
	if (recorded)
		ft_child_has_come(f.lane, child, child);
	errno = error;
	return child;
}

FT_PUBLIC pid_t fork(void)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return ft_me == NULL ? REAL(fork)() : ft_fork(FT_NO_LANE);
		if (mode == LOG_MODE_RECORD)
			return fork_and_record();
		const struct log_event *e = ft_take(LOG_FORK, 0);
		if (e == NULL)
			continue;
		struct forked f = forked_of(e);
		if (f.lane == FT_NO_LANE || ft_lane_await(f.lane, f.uses))
			return fork_again(&f, e);
	}
}

struct waited {
	int status;
	struct rusage usage;
};

/*
 * Of a child that is recorded: it has ended, or its log has, and then it is a signal that ended it. Which came when it had
 * read all.
 */
static bool has_ended(const struct ft_thread *t, uint64_t lane)
{
	(void)t;
	return !ft_process_is_there((uint32_t)lane) || ft_process_has_read_all((uint32_t)lane);
}

static bool await_end(pid_t told, int status)
{
	uint32_t lane = lane_of(told);
	if (lane == FT_NO_LANE || atomic_load(&ft_shared.processes[lane].told) != told)
		return true;
	if (!ft_wait_until(ft_me, has_ended, lane))
		return false;
	if (WIFSIGNALED(status) && ft_process_is_there(lane))
		ft_syscall(SYS_kill, (long)ft_real_pid(told), (long)SIGKILL);
	return true;
}

static pid_t wait_for(pid_t child, int *status, int options, struct rusage *usage)
{
	FT_CALL {
		struct waited w = {0};
		if (mode != LOG_MODE_REPLAY) {
			ft_real_begin();
			pid_t result = REAL(wait4)(child > 0 ? ft_real_pid(child) : child, &w.status, options, &w.usage);
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
		if (e->call.result > 0 && !await_end(e->call.result, w.status))
			continue;
		if (e->call.result > 0) {
			/* The thread does not count as still: the child may only have to be scheduled, and end it does. */
			while (REAL(wait4)(ft_real_pid(e->call.result), NULL, 0, NULL) < 0 && errno == EINTR)
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

/* To a process that is recorded. Its SIGNAL says how many had been sent: in a replay it comes after their records. */
static int kill_recorded(uint32_t process, pid_t pid, int number)
{
	struct ft_process *p = &ft_shared.processes[process];
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(kill)(ft_real_pid(pid), number);
		if (mode == LOG_MODE_RECORD) {
			int result = REAL(kill)(ft_real_pid(pid), 0), error = errno;
			if (!ft_put_call(LOG_IDENTITY, 3, result, error, NULL, 0))
				continue;
			errno = error;
			if (result != 0)
				return result;
		} else {
			const struct log_event *e = ft_take(LOG_IDENTITY, 3);
			if (e == NULL)
				continue;
			if (ft_result(e) != 0)
				return -1;
		}
		atomic_fetch_add(&p->sent[number], 1);
		/* A replay does not: who has it has it from the log, or gets it at the end (ft_signals_go_live()). */
		return ft_mode_word() == LOG_MODE_REPLAY ? 0 : REAL(kill)(ft_real_pid(pid), number);
	}
}

FT_PUBLIC int kill(pid_t pid, int number)
{
	uint32_t process = ft_me != NULL && atomic_load(&ft_shared.several) ? ft_process_told(pid) : FT_NO_LANE;
	if (process != FT_NO_LANE && process != ft_here && number > 0 && number < FT_SIGNALS)
		return kill_recorded(process, pid, number);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(kill)(ft_real_pid(pid), number);
		if (mode == LOG_MODE_RECORD) {
			int result = REAL(kill)(ft_real_pid(pid), number), error = errno;
			if (ft_put_call(LOG_IDENTITY, 3, result, error, NULL, 0)) {
				errno = error;
				return result;
			}
			continue;
		}
		const struct log_event *e = ft_take(LOG_IDENTITY, 3);
		if (e == NULL)
			continue;
		if (ft_real_pid(pid) != pid)
			REAL(kill)(ft_real_pid(pid), number);
		return (int)ft_result(e);
	}
}
