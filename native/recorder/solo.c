/*
 * Solo sections. A timer's callback writes what other threads read without a lock (memcached's current_time). When a wait
 * returns because its time is up, the other threads stop at their next interposed call (or are in a real one already), and
 * the timer's thread runs alone until its own next call that may block. Begin, end, and for each other thread the
 * place in its lane (SOLO_PASS) are recorded; a replay derives nothing.
 *
 * Invariants: `ft_solo_begun` rises only while all other threads hold still, so that a running thread reads a stable value.
 * A thread that does not stop in time, though it computes or blocks elsewhere, is not waited for: there is no section then. One that
 * only has no processor, or is being frozen for a checkpoint, is.
 */
#include "recorder/real.h"

#include <linux/futex.h>
#include <sys/syscall.h>

enum { STOP_PATIENCE_NS = 200000000, STOP_NS_MAX = 2000000000, COMPUTES_NS = 50000000, STEP_NS_MAX = 1000000, PAUSE_AFTER_FAILURE_NS = 1000000000 };

_Atomic uint32_t ft_stop_requested;
_Atomic uint64_t ft_solo_begun, ft_solo_done;
static uint64_t failed_ns; /* a thread that only computes is not waited for all the time */
static _Atomic uint32_t stopper; /* lane + 1 of who holds the others */

static void wait_on(_Atomic uint32_t *word, uint32_t value)
{
	struct timespec limit = {0, 20000000};
	ft_syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &limit, NULL, 0);
}

void ft_hold_still(struct ft_thread *t)
{
	int error = errno;
	do {
		atomic_store(&t->activity, FT_IN_REAL);
		while (atomic_load(&ft_stop_requested))
			wait_on(&ft_stop_requested, 1);
		ft_run_again(t);
	} while (atomic_load(&ft_stop_requested));
	errno = error;
}

static void let_run(void)
{
	atomic_store(&ft_stop_requested, 0);
	atomic_store(&stopper, 0);
	ft_syscall(SYS_futex, &ft_stop_requested, FUTEX_WAKE_PRIVATE, 1000, NULL, NULL, 0);
}

/* NULL: all others hold still. */
static const struct ft_thread *who_runs(const struct ft_thread *t)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (i != t->lane && ft_is_here(&ft_threads[i]) && atomic_load(&ft_threads[i].activity) == FT_RUNS)
			return &ft_threads[i];
	return NULL;
}

static uint64_t processor_ns(const struct ft_thread *t)
{
	struct timespec used = {0};
	clockid_t clock = (clockid_t)(~(unsigned)atomic_load(&t->kernel_tid) << 3 | 6); /* of one thread */
	return REAL(clock_gettime)(clock, &used) == 0 ? (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec : 0;
}

struct patience {
	uint64_t waited_ns;
	const struct ft_thread *with; /* who did not stop in the first part of it */
	uint64_t its_ns;              /* the processor time that it had used then */
};

static bool is_out_of_patience(struct patience *p, const struct ft_thread *with)
{
	if (p->waited_ns <= STOP_PATIENCE_NS)
		return false;
	if (p->with != with) {
		p->with = with;
		p->its_ns = processor_ns(with);
	}
	char state = ft_state_of(with);
	return state == 'S' || state == 'D' || processor_ns(with) - p->its_ns > COMPUTES_NS || p->waited_ns > STOP_NS_MAX;
}

static bool stop_others(struct ft_thread *t)
{
	uint32_t nobody = 0;
	if (failed_ns != 0 && ft_now_ns() - failed_ns < PAUSE_AFTER_FAILURE_NS)
		return false;
	if (!atomic_compare_exchange_strong(&stopper, &nobody, t->lane + 1))
		return false;
	atomic_store(&ft_stop_requested, 1);
	uint64_t last_ns = ft_now_ns();
	struct patience patience = {0};
	const struct ft_thread *other;
	unsigned turns = 0;
	while ((other = who_runs(t)) != NULL) {
		struct timespec nap = {0, 20000};
		if (++turns < 50)
			ft_syscall(SYS_sched_yield);
		else
			ft_syscall(SYS_nanosleep, &nap, NULL);
		/* Time in which the whole process was frozen, for a checkpoint, is not the others' fault. */
		uint64_t now_ns = ft_now_ns(), step_ns = now_ns - last_ns;
		last_ns = now_ns;
		patience.waited_ns += step_ns < STEP_NS_MAX ? step_ns : STEP_NS_MAX;
		if (is_out_of_patience(&patience, other)) {
			atomic_fetch_add(&ft_log.header->solo_failures, 1);
			failed_ns = now_ns;
			let_run();
			return false;
		}
	}
	return true;
}

void ft_solo_after_wait(struct ft_thread *t, bool timer_is_due)
{
	if (!timer_is_due || atomic_load(&ft_thread_count) < 2 || (atomic_load(&ft_shared.several) && !ft_has_other_threads()) || (atomic_load(&ft_log.header->flags) & LOG_FLAG_NO_SOLO))
		return;
	int error = errno;
	if (stop_others(t)) {
		uint64_t section = atomic_load(&ft_solo_begun) + 1;
		/* The lane's own number first: its next record is no pass. */
		uint64_t before = t->solo;
		if (t->solo == section - 1 && ft_put_after_all() && ft_put_value(LOG_SOLO_BEGIN, 0, section)) {
			t->solo = section;
			atomic_store(&ft_solo_begun, section);
			t->in_solo = true;
		} else {
			t->solo = before;
			let_run();
		}
	}
	/* Restored meanwhile: the original may have begun its section. */
	if (ft_mode_word() == LOG_MODE_REPLAY && !t->in_solo)
		ft_solo_replay_begin(t, true);
	errno = error;
}

/*
 * The log has ended. If it ended in the middle of a section, recording goes on in it: the others, who all stand at
 * interposed calls, hold still until its thread blocks.
 */
void ft_solo_reset(void)
{
	bool recording = atomic_load(&ft_log.header->after_replay) == LOG_MODE_RECORD;
	uint32_t holder = 0;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		if (!ft_is_here(&ft_threads[i]))
			continue;
		if (recording && ft_threads[i].in_solo && atomic_load(&ft_threads[i].activity) != FT_GONE)
			holder = i + 1;
		else
			ft_threads[i].in_solo = false;
	}
	atomic_store(&ft_solo_done, atomic_load(&ft_solo_begun));
	if (holder != 0) {
		atomic_store(&stopper, holder);
		atomic_store(&ft_stop_requested, 1);
	} else if (atomic_load(&stopper) != 0) {
		let_run();
	}
}

void ft_solo_finish(struct ft_thread *t)
{
	int error = errno;
	t->in_solo = false;
	if (ft_mode_word() == LOG_MODE_RECORD)
		ft_put_value(LOG_SOLO_END, 0, t->solo);
	uint64_t done = atomic_load(&ft_solo_done);
	while (done < t->solo && !atomic_compare_exchange_weak(&ft_solo_done, &done, t->solo))
		;
	if (atomic_load(&stopper) == t->lane + 1)
		let_run();
	errno = error;
}

static bool is_done(const struct ft_thread *t, uint64_t section)
{
	(void)t;
	return atomic_load(&ft_solo_done) >= section;
}

/* Replay: this thread has come to the place where it stood while the section ran. */
void ft_solo_pass(struct ft_thread *t, uint64_t section)
{
	t->solo = section;
	atomic_store(&t->solo_reached, (uint32_t)section);
	ft_wait_until(t, is_done, section);
}

static bool others_have_arrived(const struct ft_thread *t, uint64_t section)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		const struct ft_thread *other = &ft_threads[i];
		enum ft_activity activity = atomic_load(&other->activity);
		if (i != t->lane && ft_is_here(other) && (activity != FT_AT_END || ft_is_wanted(other)) && activity != FT_GONE &&
		    atomic_load(&other->solo_reached) < (uint32_t)section &&
		    !(activity == FT_IN_REAL && ft_stands_before(other, section) && atomic_load(&other->activity) == FT_IN_REAL))
			return false;
	}
	return true;
}

void ft_solo_replay_begin(struct ft_thread *t, bool holds_lock)
{
	const struct log_event *e = ft_mode_word() == LOG_MODE_REPLAY ? ft_peek(t) : NULL;
	/*
	 * The lane ends between the wait and what it would say about a section. What the thread does next is past the log: it
	 * must not be seen by those who still replay. Unless another has seen it, and says so: then it went on without a section,
	 * which would be a record.
	 */
	if (e == NULL && holds_lock)
		return;
	if (e == NULL) {
		ft_wait_for_the_end_or_proof(t);
		if (ft_mode_word() == LOG_MODE_RECORD)
			ft_solo_after_wait(t, true);
		return;
	}
	if (e->record.kind != LOG_SOLO_BEGIN || e->record.elided != ft_elided(t) || ft_mode_word() != LOG_MODE_REPLAY)
		return;
	uint64_t section = e->value;
	ft_done(e);
	t->solo = section;
	atomic_store(&ft_solo_begun, section);
	t->in_solo = ft_wait_until(t, others_have_arrived, section);
	/* The log ended before the others came. What is recorded from here on has a section that was not: it ends at once. */
	if (!t->in_solo && ft_mode_word() == LOG_MODE_RECORD)
		ft_put_value(LOG_SOLO_END, 0, section);
}
