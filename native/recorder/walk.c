/* Reading the own lane, record by record. Checks and padding are passed on the way. */
#include "recorder/replay.h"

static void fold_crc(struct ft_thread *t)
{
	if (t->crc_from != NULL && t->at > t->crc_from)
		t->crc = ft_checksum_more(t->crc, t->crc_from, (size_t)(t->at - t->crc_from));
	t->crc_from = t->at;
}

static void skip(struct ft_thread *t, uint64_t bytes)
{
	t->position += bytes;
	t->at += bytes;
	t->left -= bytes;
	t->ordinal++;
	t->peeked = false;
}

static bool find_bytes(struct ft_thread *t)
{
	if (t->at != NULL && t->left != 0)
		return true;
	fold_crc(t);
	t->at = log_at(&ft_log, t->lane, t->position);
	t->crc_from = t->at;
	t->left = LOG_SEGMENT_BYTES - t->position % LOG_SEGMENT_BYTES;
	return t->at != NULL;
}

static void pass_check(struct ft_thread *t)
{
	fold_crc(t);
	if (t->next.check.position != t->position || t->next.record.object != t->crc || t->next.check.ordinal != t->ordinal)
		ft_corrupt("a check does not match");
	skip(t, t->next_bytes);
	t->crc = 0;
	t->crc_from = t->at;
	t->checked = t->position;
}

static void pass_pad(struct ft_thread *t)
{
	if (t->next.record.object != t->left)
		ft_corrupt("padding that does not end with its segment");
	t->at += 8;
	fold_crc(t);
	t->at -= 8;
	skip(t, t->left);
	t->at = NULL;
	t->crc_from = NULL;
}

const struct log_event *ft_peek(struct ft_thread *t)
{
	const char *why = NULL;
	for (;;) {
		bool passes = t->next.record.kind == LOG_FLUSH || t->next.record.kind == LOG_AFTER;
		if (t->peeked && (!passes || ft_elided(t) != t->next.record.elided))
			return &t->next;
		if (t->peeked) {
			if (t->next.record.kind == LOG_AFTER)
				ft_want(&t->next);
			skip(t, t->next_bytes);
			ft_progress(t);
		}
		if (t->position >= t->end)
			t->end = atomic_load_explicit(&ft_log.lanes[t->lane].head, memory_order_acquire);
		if (t->position >= t->end || !find_bytes(t))
			return NULL;
		uint64_t available = t->end - t->position < t->left ? t->end - t->position : t->left;
		t->next_bytes = log_decode(t->at, available, &t->next, &why);
		if (t->next_bytes == 0)
			ft_corrupt(why);
		t->peeked = true;
		if (t->next.record.kind == LOG_CHECK)
			pass_check(t);
		else if (t->next.record.kind == LOG_PAD)
			pass_pad(t);
	}
}

enum ahead { AHEAD_END, AHEAD_FOUND, AHEAD_BROKEN };

/* The first record from the lane's position on that is none of `skipped` (a bit a kind). */
static enum ahead look_ahead(const struct ft_thread *t, uint64_t skipped, struct log_event *e)
{
	uint64_t at = t->position, head = atomic_load_explicit(&ft_log.lanes[t->lane].head, memory_order_acquire);
	while (at < head) {
		const char *why;
		uint64_t left = LOG_SEGMENT_BYTES - at % LOG_SEGMENT_BYTES;
		const uint8_t *bytes = log_at(&ft_log, t->lane, at);
		uint32_t length = bytes == NULL ? 0 : log_decode(bytes, left, e, &why);
		if (length == 0)
			return AHEAD_BROKEN;
		if (e->record.kind >= 64 || !(skipped >> e->record.kind & 1))
			return AHEAD_FOUND;
		at += e->record.kind == LOG_PAD ? left : length;
	}
	return AHEAD_END;
}

/*
 * Of another thread that sits in a real call from before a checkpoint, out of which nothing may wake it (a join): whatever it
 * does, it stops at its next record before it runs on, if no acquisitions that were only counted come before. Is that
 * the pass of this section, or the end?
 */
bool ft_stands_before(const struct ft_thread *t, uint64_t section)
{
	struct log_event e;
	/* The end of its own section it has reached with the call that it is in. */
	enum ahead found = look_ahead(t, 1ull << LOG_CHECK | 1ull << LOG_PAD | 1ull << LOG_SOLO_END, &e);
	if (found != AHEAD_FOUND)
		return found == AHEAD_END && !ft_is_wanted(t);
	return e.record.kind == LOG_SOLO_PASS && e.value >= section && e.record.elided == ft_elided(t);
}

uint8_t ft_kind_ahead(const struct ft_thread *t, uint32_t *object)
{
	struct log_event e;
	if (look_ahead(t, 1ull << LOG_CHECK | 1ull << LOG_PAD | 1ull << LOG_SOLO_END | 1ull << LOG_SOLO_PASS, &e) != AHEAD_FOUND)
		return 0;
	*object = e.record.object;
	return e.record.kind;
}

void ft_consume(struct ft_thread *t)
{
	skip(t, t->next_bytes);
	ft_progress(t);
	t->events++;
}

