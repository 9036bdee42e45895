/*
 * Pacing: a replay in which threads come to their calls in the order, and at least the distances, in which they did when
 * recorded. It is for data races: two accesses to the same memory that nothing orders, but time.
 *
 * A thread may go beyond a call with stamp S only if every other thread that computes has had the time for it that it had when
 * recorded: from its own last stamp to S, and a margin, as it may have to be scheduled. One that waits at a call with a later
 * stamp, or that blocks, has come as far already; one that only has to be scheduled has not. So what nobody computes in is not waited for, and such a replay is as
 * slow as the threads' own work, not as the original was.
 *
 * Calls with a stamp are those of the shapes CALL and TURN; the others are ordered by their versions alone.
 */
#include "recorder/replay.h"

enum { MARGIN_NS = 500000, KICKED_NS = 50000000 };

static int64_t ns_between(uint32_t from, uint32_t to)
{
	uint64_t rate = atomic_load_explicit(&ft_log.header->ticks_per_s, memory_order_relaxed);
	int64_t ticks = (int64_t)(int32_t)(to - from) * (1 << LOG_STAMP_SHIFT);
	return rate < 1000000 ? 0 : ticks * 1000 / (int64_t)(rate / 1000000);
}

static bool may_go(const struct ft_thread *t, uint64_t stamp);

static bool lets_go(const struct ft_thread *other, const struct ft_thread *t, uint32_t stamp, uint64_t now_ns)
{
	enum ft_activity activity = atomic_load(&other->activity);
	if (activity == FT_WAITS && other->over == may_go) {
		int32_t later = (int32_t)((uint32_t)other->over_argument - stamp);
		return later > 0 || (later == 0 && other > t);
	}
	bool comes = (activity == FT_WAITS || activity == FT_AT_TURN) && other->over(other, other->over_argument);
	uint64_t since_ns = atomic_load(&other->pace_ns), began_ns = ft_replay_began_ns();
	/* In a call from before the checkpoint: it is being kicked out of it. Not out of a join, which has to be borne with. */
	if (activity == FT_IN_REAL && since_ns == 0 && now_ns < began_ns + KICKED_NS)
		return false;
	if (activity != FT_RUNS && !comes)
		return true;
	if (since_ns == 0)
		since_ns = began_ns;
	uint32_t from = atomic_load(&other->pace_stamp);
	if (from == 0) /* it has had none yet */
		from = (uint32_t)(atomic_load(&ft_log.header->start_ticks) >> LOG_STAMP_SHIFT);
	int64_t computed_ns = ns_between(from, stamp);
	return computed_ns <= 0 || (!comes && now_ns >= since_ns + (uint64_t)computed_ns + MARGIN_NS);
}

/* Asked by the thread itself, and by who looks for the end of the replay. */
static bool may_go(const struct ft_thread *t, uint64_t stamp)
{
	uint64_t now_ns = ft_now_ns();
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (&ft_threads[i] != t && ft_is_here(&ft_threads[i]) && !lets_go(&ft_threads[i], t, (uint32_t)stamp, now_ns))
			return false;
	if (t == ft_me) { /* before it runs */
		atomic_store(&ft_me->pace_stamp, (uint32_t)stamp);
		atomic_store(&ft_me->pace_ns, now_ns);
	}
	return true;
}

bool ft_pace(struct ft_thread *t, const struct log_event *e)
{
	if (e->shape == LOG_SHAPE_CALL || e->shape == LOG_SHAPE_TURN)
		return ft_wait_until(t, may_go, e->call.stamp);
	atomic_store(&t->pace_ns, ft_now_ns()); /* it may have waited for another thread just before */
	return true;
}
