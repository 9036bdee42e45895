/*
 * Invariants, asserted below:
 *   1. Frames leave in the order in which they came, byte for byte.
 *   2. Non-zero stamps never go down from the oldest frame to the newest. Restamped, all are one.
 *   3. The arena never grows; without room nothing is taken, and nothing inside is ever displaced.
 *   4. `bytes` and `frames` are zero together.
 *   5. Unsettled frames are the newest; none is popped, and nothing else is stamped while there are any.
 */
#include "gate/hold.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "gate/invariant.h"

#define MARK_FRAME 0x46524d45u /* "FRME" */
#define MARK_TURN 0x5455524eu /* "TURN": the next record is at the start of the arena */
#define NOTHING SIZE_MAX

static size_t record_size(size_t length)
{
	return (sizeof(struct hold_frame) + length + 7) & ~(size_t)7;
}

static struct hold_frame *record_at(const struct hold *hold, size_t offset)
{
	return (struct hold_frame *)(void *)(hold->arena + offset);
}

int hold_open(struct hold *hold, size_t arena_bytes)
{
	memset(hold, 0, sizeof *hold);
	hold->reserved = NOTHING;
	hold->size = (arena_bytes + 4095) & ~(size_t)4095;
	hold->arena = mmap(NULL, hold->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hold->arena == MAP_FAILED) {
		hold->arena = NULL;
		return -1;
	}
	return 0;
}

void hold_close(struct hold *hold)
{
	if (hold->arena != NULL)
		munmap(hold->arena, hold->size);
	memset(hold, 0, sizeof *hold);
	hold->reserved = NOTHING;
}

unsigned char *hold_reserve(struct hold *hold, size_t length)
{
	size_t need = record_size(length);
	hold->reserved = NOTHING;
	if (hold->frames == 0 || hold->tail > hold->head) {
		if (need <= hold->size - hold->tail)
			hold->reserved = hold->tail;
		else if (need < hold->head)
			hold->reserved = 0;
	} else if (need < hold->head - hold->tail) {
		/* Strictly less: a full ring must not look like an empty one. */
		hold->reserved = hold->tail;
	}
	if (hold->reserved == NOTHING)
		return NULL;
	hold->reserved_length = length;
	return record_at(hold, hold->reserved)->bytes;
}

void hold_commit(struct hold *hold, size_t length, uint64_t stamp, uint64_t now_ns)
{
	INVARIANT(hold->reserved != NOTHING);
	INVARIANT(length > 0 && length <= hold->reserved_length);
	bool settled = stamp != HOLD_UNSETTLED;
	INVARIANT(!settled || (hold->unsettled == 0 && (stamp == 0 || stamp >= hold->stamp_max)));

	if (hold->reserved != hold->tail) {
		INVARIANT(hold->reserved == 0);
		if (hold->size - hold->tail >= sizeof(struct hold_frame))
			record_at(hold, hold->tail)->mark = MARK_TURN;
	}
	struct hold_frame *frame = record_at(hold, hold->reserved);
	frame->length = (uint32_t)length;
	frame->mark = MARK_FRAME;
	frame->stamp = stamp;
	frame->arrived_ns = now_ns;
	if (!settled && hold->unsettled++ == 0)
		hold->unsettled_at = hold->reserved;
	hold->tail = hold->reserved + record_size(length);
	hold->reserved = NOTHING;
	hold->frames++;
	hold->bytes += length;
	if (settled && stamp != 0)
		hold->stamp_max = stamp;
	INVARIANT(hold->tail <= hold->size);
	INVARIANT(hold->tail != hold->head);
}

const struct hold_frame *hold_oldest(const struct hold *hold)
{
	INVARIANT((hold->frames == 0) == (hold->bytes == 0));
	if (hold->frames == 0)
		return NULL;
	const struct hold_frame *frame = record_at(hold, hold->head);
	INVARIANT(frame->mark == MARK_FRAME);
	return frame;
}

static bool at_turn(const struct hold *hold)
{
	return hold->size - hold->head < sizeof(struct hold_frame) || record_at(hold, hold->head)->mark == MARK_TURN;
}

void hold_pop(struct hold *hold)
{
	const struct hold_frame *frame = hold_oldest(hold);
	INVARIANT(frame != NULL && hold->frames > hold->unsettled);
	hold->bytes -= frame->length;
	hold->frames--;
	hold->head += record_size(frame->length);
	hold->reserved = NOTHING;
	if (hold->frames == 0) {
		/* From the start again: the part of the arena in use stays small and in the cache. */
		hold->head = hold->tail = 0;
		hold->stamp_max = 0;
	} else if (at_turn(hold)) {
		hold->head = 0;
	}
}

/* The `left` frames from `at` on, which are the newest. */
static void stamp_from(struct hold *hold, size_t at, size_t left, uint64_t stamp)
{
	for (; left > 0; left--) {
		if (hold->size - at < sizeof(struct hold_frame) || record_at(hold, at)->mark == MARK_TURN)
			at = 0;
		struct hold_frame *frame = record_at(hold, at);
		INVARIANT(frame->mark == MARK_FRAME);
		frame->stamp = stamp;
		at += record_size(frame->length);
	}
	hold->unsettled = 0;
	hold->stamp_max = stamp;
}

void hold_settle(struct hold *hold, uint64_t stamp)
{
	if (hold->unsettled == 0)
		return;
	INVARIANT(stamp != 0 && stamp >= hold->stamp_max);
	stamp_from(hold, hold->unsettled_at, hold->unsettled, stamp);
}

void hold_restamp(struct hold *hold, uint64_t stamp)
{
	hold->reserved = NOTHING;
	stamp_from(hold, hold->head, hold->frames, stamp);
	if (hold->frames == 0)
		hold->stamp_max = 0;
}

size_t hold_clear(struct hold *hold)
{
	size_t frames = hold->frames;
	hold->head = hold->tail = hold->frames = hold->bytes = 0;
	hold->stamp_max = hold->unsettled = 0;
	hold->reserved = NOTHING;
	return frames;
}

size_t hold_used(const struct hold *hold)
{
	if (hold->frames == 0)
		return 0;
	if (hold->tail > hold->head)
		return hold->tail - hold->head;
	return hold->size - hold->head + hold->tail;
}
