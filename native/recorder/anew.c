/*
 * Recording begins anew in an application that was restored without its log (mode ANEW): the file is a new and empty one, and the
 * threads' positions are somewhere far behind its beginning. The lanes begin at those positions, and the first checkpoint after
 * that is what the new log leads from; so whatever happens before may go unrecorded, and nobody has to wait.
 *
 * Invariants:
 *  - In mode ANEW calls are made as in mode RECORD, and ft_put() puts nothing: a call that ends in mode RECORD is recorded.
 *  - A lane begins when its thread surely is not in the middle of an append, or that would publish bytes of another file. It
 *    was seen in a real call, or at the beginning of one, since the file is there: then its `log` is this file's id.
 *  - What is left over from another file when the process is restored changes nothing: heads and tails move from 0 only,
 *    and the mode from this file's ANEW only (`after_replay` is a number of its own till then).
 */
#include "recorder/real.h"

#include <stddef.h>

enum { NOBODY = 0, SOMEBODY = 1 };

static uint64_t this_log(void)
{
	uint64_t id;
	memcpy(&id, ft_log.header->log_id, sizeof id);
	return id;
}

/* Its own thread does this, or somebody who keeps it in its call. */
static void forget_place(struct ft_thread *t, uint64_t log)
{
	t->at = NULL;
	t->left = 0;
	t->crc = 0;
	t->crc_from = NULL;
	t->checked = t->position;
	atomic_store(&t->log, log);
}

enum log_mode ft_mode_beyond(struct ft_thread *t, enum log_mode mode)
{
	if (mode != LOG_MODE_ANEW)
		return LOG_MODE_LIVE;
	uint64_t log = this_log();
	if (atomic_load_explicit(&t->log, memory_order_relaxed) != log)
		forget_place(t, log);
	return LOG_MODE_RECORD;
}

static bool is_in_no_append(const struct ft_thread *t)
{
	switch (atomic_load(&t->activity)) {
	case FT_IN_REAL: case FT_GONE: case FT_KILLED: return true;
	default: return false;
	}
}

/* Nobody leaves a real call meanwhile (ft_real_end()). */
static bool all_have_come(uint64_t log)
{
	uint32_t nobody = NOBODY;
	bool all = true;
	if (!atomic_compare_exchange_strong(&ft_ending, &nobody, SOMEBODY))
		return false;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		if (atomic_load(&t->log) != log && is_in_no_append(t))
			forget_place(t, log);
		all = all && atomic_load(&t->log) == log;
	}
	atomic_store(&ft_ending, NOBODY);
	return all;
}

static void begin_lane(uint32_t number)
{
	const struct ft_thread *t = &ft_threads[number];
	struct log_lane *lane = &ft_log.lanes[number];
	uint64_t position = t->position, none = 0;
	atomic_compare_exchange_strong(&lane->tail, &none, position);
	none = 0;
	atomic_compare_exchange_strong(&lane->head, &none, position);
	if (number >= atomic_load(&ft_thread_count))
		return;
	enum ft_activity activity = atomic_load(&t->activity);
	atomic_store(&lane->kernel_tid, (uint32_t)atomic_load(&t->kernel_tid));
	atomic_store(&lane->state, activity == FT_GONE || activity == FT_KILLED ? LOG_LANE_ENDED : LOG_LANE_ACTIVE);
}

/* Mode and the word behind it at once: they are this file's, or nothing happens. */
static void begin_recording(uint64_t log)
{
	_Static_assert(offsetof(struct log_header, after_replay) == offsetof(struct log_header, mode) + 4, "one word of 64 bits");
	_Atomic uint64_t *both = (_Atomic uint64_t *)(void *)&ft_log.header->mode;
	uint64_t anew = LOG_MODE_ANEW | (uint64_t)(uint32_t)log << 32;
	atomic_compare_exchange_strong(both, &anew, LOG_MODE_RECORD | (uint64_t)LOG_MODE_LIVE << 32);
}

void ft_begin_anew(void)
{
	uint64_t log = this_log();
	if (!all_have_come(log))
		return;
	ft_describe_recording();
	for (uint32_t lane = 0; lane < ft_log.lane_count; lane++)
		begin_lane(lane);
	atomic_store(&ft_log.header->owner_pid, (uint32_t)atomic_load(&ft_shared.processes[0].pid));
	begin_recording(log);
}
