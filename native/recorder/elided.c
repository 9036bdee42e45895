/* Acquisitions that were only counted: which of those after a lane's last record did happen. See `elided` in log/format.h. */
#include "recorder/replay.h"

static void owe(struct ft_thread *t, uint32_t id, uint32_t version)
{
	for (uint32_t i = 0; i < t->owed_count; i++)
		if (t->owed[i].id == id) {
			if ((int32_t)(version - t->owed[i].until) < 0)
				t->owed[i].until = version;
			return;
		}
	if (t->owed_count < FT_OWED_MAX) {
		t->owed[t->owed_count].id = id;
		t->owed[t->owed_count++].until = version;
	}
}

/* The first version of each object that this thread owns that another lane is still to consume. */
static void find_owed(struct ft_thread *t)
{
	t->owed_count = 0;
	t->owed_known = true;
	for (uint32_t lane = 0; lane < atomic_load(&ft_thread_count); lane++) {
		uint64_t at = *(volatile uint64_t *)&ft_threads[lane].position;
		uint64_t head = lane == t->lane ? 0 : atomic_load(&ft_log.lanes[lane].head);
		while (at < head) {
			struct log_event e;
			const char *why;
			uint64_t left = LOG_SEGMENT_BYTES - at % LOG_SEGMENT_BYTES;
			const uint8_t *bytes = log_at(&ft_log, lane, at);
			uint32_t length = bytes == NULL ? 0 : log_decode(bytes, left, &e, &why);
			if (length == 0)
				break;
			if ((e.record.kind == LOG_LOCK || e.record.kind == LOG_WRITE_LOCK || e.record.kind == LOG_READ_LOCK ||
			     e.record.kind == LOG_WAIT_END) && e.record.object < LOG_OBJECTS_MAX &&
			    atomic_load(&ft_objects[e.record.object].owner) == t->lane + 1)
				owe(t, e.record.object, e.sync.version);
			at += e.record.kind == LOG_PAD ? left : length;
		}
	}
}

static bool owes(const struct ft_thread *t)
{
	for (uint32_t i = 0; i < t->owed_count; i++)
		if ((int32_t)(t->owed[i].until - atomic_load(&ft_objects[t->owed[i].id].version)) > 0)
			return true;
	return false;
}

/*
 * A lane ends in the middle of a stretch of counted acquisitions: the count would have come with the next record. That
 * they happened is seen from the next owner's version, in another lane. What this thread does between them is its own.
 */
bool ft_is_elided_at_the_end(struct ft_thread *t, const void *address)
{
	uint32_t id = ft_object_known(address);
	if (!ft_elides || id == 0 || atomic_load(&ft_objects[id].owner) != t->lane + 1)
		return false;
	if (!t->owed_known)
		find_owed(t);
	/* Of this object not more than the next owner's version says; of one that nobody takes later, what is needed to get on. */
	for (uint32_t i = 0; i < t->owed_count; i++)
		if (t->owed[i].id == id)
			return (int32_t)(t->owed[i].until - atomic_load(&ft_objects[id].version)) > 0;
	return owes(t);
}

bool ft_next_is_elided(const void *address)
{
	const struct log_event *e = ft_peek(ft_me);
	return e != NULL ? e->record.elided > ft_me->elided : ft_is_elided_at_the_end(ft_me, address);
}

