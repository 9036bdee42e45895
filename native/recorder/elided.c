/*
 * Acquisitions that are only counted. A thread that takes a lock which it was the last to take counts it, and the count
 * is in its next record (`elided` in log/format.h).
 *
 * Invariant: what depends on a counted acquisition is published after a record that proves it. Another thread can
 * depend on it only by taking the same lock (or, for a solo section, by running while this thread holds still). Before it
 * publishes that, it puts an AFTER with how far the owner has come, if the owner's count is in no record yet. So in
 * every closed cut a lane's acquisitions beyond its last record are either proven, exactly up to a number, or nothing that
 * has left depends on them.
 *
 * An AFTER that says the same as one that this lane has already is left out: what it proves is proven. That holds for a
 * replay from a checkpoint that lies between the two as well, as the owner had come that far when the first was put.
 *
 * The owner's progress is read before the mode, as everything that a record is computed from: a copy that was restored
 * later would read its own.
 */
#include "recorder/replay.h"

bool ft_put_after(uint32_t owner)
{
	uint64_t progress;
	if (!ft_needs_after(ft_me, owner, &progress))
		return true;
	if (!ft_put_value(LOG_AFTER, owner - 1, progress))
		return false;
	ft_after_is_put(ft_me, owner, progress);
	return true;
}

bool ft_put_after_all(void)
{
	for (uint32_t lane = 0; lane < atomic_load(&ft_thread_count); lane++)
		if (ft_is_here(&ft_threads[lane]) && !ft_put_after(lane + 1))
			return false;
	return true;
}

void ft_want(const struct log_event *after)
{
	if (after->record.object >= ft_log.lane_count)
		ft_corrupt("a lane that does not exist");
	_Atomic uint64_t *wanted = &ft_threads[after->record.object].wanted;
	uint64_t before = atomic_load(wanted);
	while (before < after->value && !atomic_compare_exchange_weak(wanted, &before, after->value))
		;
}

bool ft_is_wanted(const struct ft_thread *t)
{
	uint64_t progress = atomic_load(&t->progress), wanted = atomic_load(&t->wanted);
	return log_progress_position(wanted) == log_progress_position(progress) && wanted > progress;
}

bool ft_next_is_elided(const struct ft_thread *t, const void *address)
{
	uint32_t id = ft_is_wanted(t) ? ft_object_known(address) : 0;
	return id != 0 && atomic_load(&ft_objects[id].owner) == t->lane + 1;
}
