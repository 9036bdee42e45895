/*
 * Consuming a lane. A record is consumed (position, versions) by ft_done() only, after what it stands for has happened; so
 * a checkpoint taken during a replay, or a replay that ends in the middle of a wait, finds its place again.
 */
#include "recorder/replay.h"
#include "recorder/real.h"

#include <sys/syscall.h>

/* ---- turns */

static bool takes_turn(const struct log_event *e)
{
	switch (e->record.kind) {
	case LOG_TRY_FAILED: case LOG_SEM_FAILED: case LOG_THREAD_CREATE: case LOG_THREAD_JOIN: case LOG_BARRIER: case LOG_BARRIER_DONE: case LOG_ONCE_RUN:
		return false;
	default: return e->shape == LOG_SHAPE_SYNC || e->shape == LOG_SHAPE_TURN;
	}
}

static uint32_t object_of(const struct log_event *e)
{
	return e->shape == LOG_SHAPE_SYNC ? e->record.object : (uint32_t)e->sync.result;
}

static bool wait_for_turn(struct ft_thread *t, const struct log_event *e)
{
	uint32_t object = object_of(e);
	if (object >= LOG_OBJECTS_MAX)
		ft_corrupt("an object that cannot be");
	return ft_wait_for_turn(t, object, e->sync.version);
}

/* ---- what the interposed functions call */

/* What is consumed on the way to a record that a call is waiting for. True if it was one of these. */
static bool pass_in_between(struct ft_thread *t, const struct log_event *e)
{
	uint64_t section = e->value;
	switch (e->record.kind) {
	case LOG_SOLO_PASS:
		ft_consume(t);
		ft_solo_pass(t, section);
		return true;
	case LOG_SOLO_END:
		ft_consume(t);
		ft_solo_finish(t);
		return true;
	case LOG_SIGNAL:
		ft_signals_replay(t, e);
		return true;
	default: return false;
	}
}

bool ft_pass_in_between(struct ft_thread *t)
{
	const struct log_event *e = ft_peek(t);
	return e != NULL && e->record.elided == ft_elided(t) && pass_in_between(t, e);
}

/* `lock`: what the call wants to acquire, or NULL. */
static const struct log_event *coming(struct ft_thread *t, const void *lock)
{
	ft_replay_begins();
	for (;;) {
		if (ft_mode_word() != LOG_MODE_REPLAY)
			return NULL;
		const struct log_event *e = ft_peek(t);
		if (e == NULL) {
			ft_wait_for_the_end(t, lock);
			if (ft_mode_word() != LOG_MODE_REPLAY || (lock != NULL && ft_next_is_elided(t, lock)))
				return NULL;
			continue;
		}
		if (e->record.elided != ft_elided(t))
			return e; /* a divergence: the caller says what it wanted */
		if (!pass_in_between(t, e))
			return e;
	}
}

uint8_t ft_coming(void)
{
	const struct log_event *e = coming(ft_me, NULL);
	return e == NULL ? 0 : e->record.kind;
}

uint8_t ft_coming_acquisition(const void *address)
{
	struct ft_thread *t = ft_me;
	const struct log_event *e = coming(t, address);
	if (e == NULL)
		return ft_mode_word() == LOG_MODE_REPLAY ? FT_COUNTED : 0;
	return e->record.elided > ft_elided(t) ? FT_COUNTED : e->record.kind;
}

static bool is_cancelled(const struct ft_thread *t, uint64_t argument)
{
	(void)argument;
	return atomic_load(&t->cancelled);
}

/*
 * The thread was cancelled in this call. Whoever did it comes to that too, and leaves a mark; nanosleep() is a place where
 * it takes effect.
 */
static void await_cancellation(struct ft_thread *t)
{
	struct timespec nap = {0, 1000000};
	if (!ft_wait_until(t, is_cancelled, 0))
		return;
	REAL(pthread_cancel)(t->self);
	REAL(nanosleep)(&nap, NULL);
}

const struct log_event *ft_take(uint8_t kind, uint32_t object)
{
	struct ft_thread *t = ft_me;
	const struct log_event *e = coming(t, NULL);
	if (e == NULL)
		return NULL;
	struct ft_sides mine = {.kind = kind, .object = object};
	if (e->record.kind == LOG_THREAD_END && kind != LOG_THREAD_END && e->record.elided == ft_elided(t))
		await_cancellation(t);
	if (ft_mode_word() != LOG_MODE_REPLAY)
		return NULL;
	if (e->record.elided != ft_elided(t))
		mine.what = "locks taken since the last event";
	else if (e->record.kind != kind)
		mine.what = "call";
	else if (object != FT_ANY && e->record.object != object)
		mine.what = "object";
	if (mine.what != NULL)
		ft_diverged(&mine, e);
	if (takes_turn(e) && !wait_for_turn(t, e))
		return NULL;
	if (unlikely(atomic_load(&ft_log.header->flags) & LOG_FLAG_PACE) && !ft_pace(t, e))
		return NULL;
	return e;
}

void ft_done(const struct log_event *e)
{
	struct ft_thread *t = ft_me;
	ft_consume(t);
	if (takes_turn(e))
		atomic_store_explicit(&ft_objects[object_of(e)].version, e->sync.version + 1, memory_order_release);
}

long ft_result(const struct log_event *e)
{
	int result = e->call.result;
	ft_done(e);
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}
