/*
 * Waiting in a replay, and its end: when nothing can move any more, one thread makes it while nobody leaves the place where
 * it waits.
 *
 * Invariants:
 *  - A thread that waits says for what. It is not still if that has come already: it only has to be scheduled.
 *  - One in a real call is still only if it sleeps in the kernel.
 *  - A thread at its lane's end goes on if the log proves, by another's AFTER, that the original did (elided.c). An end with one
 *    that could not is none: the replay has stalled.
 *  - While `ft_ending` is set no thread leaves the place where it waits (ft_run_again()), so what is seen of all threads
 *    after it was set stays so until the mode has changed.
 */
#include "recorder/real.h"
#include "recorder/replay.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>

enum { STAT_BYTES_MAX = 512 };

static uint64_t began_ns;

void ft_replay_begins(void)
{
	if (began_ns == 0 && ft_mode_word() == LOG_MODE_REPLAY && !atomic_load(&ft_ending))
		began_ns = ft_now_ns();
}

uint64_t ft_replay_began_ns(void) { return began_ns; }

uint64_t ft_replay_took_ns(void)
{
	uint64_t took_ns = began_ns != 0 ? ft_now_ns() - began_ns : 0;
	began_ns = 0;
	return took_ns;
}

/* Of this process, as far as it alone is concerned. */
void ft_replay_is_over(void)
{
	ft_solo_reset();
	began_ns = 0;
}

/* ---- waiting */

static void back_off(unsigned *turns)
{
	++*turns;
	if (*turns < 200) {
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
	} else if (*turns < 1000) {
		ft_syscall(SYS_sched_yield);
	} else {
		struct timespec nap = {0, 50000};
		ft_syscall(SYS_nanosleep, &nap, NULL);
	}
}

/* Out of a wait. Not while the end is being made: what waits then has not happened. */
void ft_run_again(struct ft_thread *t)
{
	ft_pace_goes_on(t);
	for (;;) {
		atomic_store(&t->activity, FT_RUNS);
		if (!atomic_load(&ft_ending))
			return;
		atomic_store(&t->activity, FT_AT_END);
		int error = errno;
		unsigned turns = 0;
		while (atomic_load(&ft_ending)) {
			ft_answer();
			back_off(&turns);
		}
		errno = error;
	}
}

static bool wait_as(struct ft_thread *t, enum ft_activity activity, ft_over *over, uint64_t argument)
{
	int error = errno; /* a call that does not fail leaves it alone, also if it had to wait here */
	unsigned turns = 0;
	bool is_over;
	t->over = over;
	t->over_argument = argument;
	atomic_store(&t->activity, activity);
	while (!(is_over = over(t, argument)) && ft_mode_word() == LOG_MODE_REPLAY) {
		ft_answer();
		back_off(&turns);
	}
	ft_run_again(t);
	errno = error;
	return is_over && ft_mode_word() == LOG_MODE_REPLAY;
}

bool ft_wait_until(struct ft_thread *t, ft_over *over, uint64_t argument) { return wait_as(t, FT_WAITS, over, argument); }

static bool has_turn(const struct ft_thread *t, uint64_t argument)
{
	(void)argument;
	const struct ft_object *object = &ft_objects[atomic_load_explicit(&t->turn_object, memory_order_relaxed)];
	return atomic_load_explicit(&object->version, memory_order_acquire) ==
	           atomic_load_explicit(&t->turn_version, memory_order_relaxed) &&
	       !atomic_load_explicit(&object->busy, memory_order_acquire);
}

bool ft_wait_for_turn(struct ft_thread *t, uint32_t object, uint32_t version)
{
	atomic_store_explicit(&t->turn_object, object, memory_order_relaxed);
	atomic_store_explicit(&t->turn_version, version, memory_order_relaxed);
	return likely(has_turn(t, 0)) || wait_as(t, FT_AT_TURN, has_turn, 0);
}

static bool lane_has_more(const struct ft_thread *t, uint64_t argument)
{
	(void)argument;
	return t->position < atomic_load(&ft_log.lanes[t->lane].head);
}

static bool goes_on(const struct ft_thread *t, uint64_t lock)
{
	if (lane_has_more(t, 0))
		return true;
	if (lock == FT_ANY_LOCK)
		return ft_is_wanted(t);
	return lock != 0 && ft_next_is_elided(t, (const void *)lock);
}

static bool goes_on_or_ends(const struct ft_thread *t, uint64_t lock)
{
	if (goes_on(t, lock))
		return true;
	ft_replay_ends_if_all_still(false);
	return false;
}

void ft_wait_for_the_end(struct ft_thread *t, const void *lock) { wait_as(t, FT_AT_END, goes_on_or_ends, (uint64_t)lock); }

void ft_wait_for_the_end_or_proof(struct ft_thread *t) { wait_as(t, FT_AT_END, goes_on_or_ends, FT_ANY_LOCK); }

/* ---- the end */

char ft_state_of(const struct ft_thread *t)
{
	char path[64], stat[STAT_BYTES_MAX];
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&t->kernel_tid));
	long fd = ft_syscall(SYS_openat, (long)AT_FDCWD, path, (long)(O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return 'S';
	long bytes = ft_syscall(SYS_read, fd, stat, (long)sizeof stat - 1);
	ft_syscall(SYS_close, fd);
	stat[bytes > 0 ? bytes : 0] = 0;
	const char *after_name = strrchr(stat, ')');
	return after_name == NULL || after_name[1] != ' ' ? 'S' : after_name[2];
}

static bool is_still(const struct ft_thread *t, bool settled)
{
	switch (atomic_load(&t->activity)) {
	case FT_AT_END: return !goes_on(t, t->over_argument);
	case FT_GONE: case FT_KILLED: return true;
	case FT_AT_TURN: case FT_WAITS: return settled && !t->over(t, t->over_argument);
	case FT_IN_REAL: return settled && ft_state_of(t) == 'S';
	default: return false;
	}
}

bool ft_all_still(bool settled)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (ft_is_here(&ft_threads[i]) && !is_still(&ft_threads[i], settled))
			return false;
	return true;
}

/* Who stands before acquisitions that the log proves. All are still, so nobody is on the way to them. */
static bool is_behind_proof(const struct ft_thread *t)
{
	return ft_is_here(t) && atomic_load(&t->activity) == FT_AT_END && t->over == goes_on_or_ends && ft_is_wanted(t);
}

static bool anybody_is_behind_proof(void)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (is_behind_proof(&ft_threads[i]))
			return true;
	return false;
}

void ft_replay_ends_if_all_still(bool settled)
{
	uint32_t nobody = 0;
	if (!ft_all_still(settled) || !ft_others_may_be_still(settled) || ft_mode_word() != LOG_MODE_REPLAY ||
	    !atomic_compare_exchange_strong(&ft_ending, &nobody, 1))
		return;
	/* Twice: one may have been woken by another that was looked at after it. Now none of those can wake anybody. */
	enum ft_question question = settled ? FT_ARE_YOU_SETTLED : FT_ARE_YOU_STILL;
	if (ft_all_still(settled) && ft_others_agree(question) && ft_all_still(settled) && ft_others_agree(question) &&
	    ft_mode_word() == LOG_MODE_REPLAY) {
		if (anybody_is_behind_proof())
			ft_stalled();
		struct ft_text text = ft_report_replayed();
		const char *failed = ft_go_live();
		if (failed != NULL)
			ft_handover_failed(failed);
		ft_replay_is_over();
		ft_report_publish(&text, LOG_OUTCOME_REPLAYED);
		atomic_fetch_add(&ft_log.header->generation, 1);
		atomic_store(&ft_log.header->mode, atomic_load(&ft_log.header->after_replay));
	}
	atomic_store(&ft_ending, 0);
}

void ft_replay_exits(void)
{
	struct ft_text text = ft_report_replayed();
	ft_report_publish(&text, LOG_OUTCOME_REPLAYED);
}
