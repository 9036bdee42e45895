#include "ship/source.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "gate/invariant.h"

_Static_assert(offsetof(struct log_header, waits) == SHIP_LOG_HEADER_BYTES + SHIP_HEADER_WAITS_AT, "the counters");
_Static_assert(sizeof(struct log_header) <= SHIP_LOG_HEADER_BYTES + sizeof(struct ship_header), "all of the header");

#define EGRESS_ENTRY_BYTES (sizeof(struct ship_entry) + SHIP_EGRESS_BYTES_MAX)
/* Room that frames from outside leave to those of the container, here and at the standby. */
#define INGRESS_RESERVE_BYTES 65536u
/* Of the standby's room for frames: so much may be of before the last checkpoint. */
enum { FRAMES_KEPT_PART = 4 };

int source_open(struct source *source, const char *path, uint64_t generation, uint64_t frames_bytes)
{
	memset(source, 0, sizeof *source);
	int failed = log_map(path, true, &source->log);
	if (failed != 0)
		return failed;
	source->items_a_cut_max = 3ull * source->log.lane_count + source->log.segment_count + 8;
	if (getrandom(source->stream, sizeof source->stream, 0) != sizeof source->stream ||
	    ship_queue_open(&source->queue, 4 * source->items_a_cut_max, frames_bytes) != 0) {
		failed = errno == 0 ? -EIO : -errno;
		log_unmap(&source->log);
		return failed;
	}
	ship_queue_reset(&source->queue, &source->log);
	source->open = true;
	source->generation = generation;
	ship_put(&source->queue, SHIP_GAP, 0, 0, 0);
	source->frames_put = ship_entry_size(0);
	for (uint32_t lane = 0; lane < source->log.lane_count; lane++) {
		uint64_t tail = atomic_load(&source->log.lanes[lane].tail);
		source->put[lane] = source->trim_put[lane] = tail;
		if (tail > 0)
			ship_put(&source->queue, SHIP_TRIM_LANE, (uint16_t)lane, 0, tail);
	}
	return 0;
}

void source_close(struct source *source)
{
	if (!source->open)
		return;
	ship_queue_close(&source->queue);
	log_unmap(&source->log);
	source->open = false;
}

static bool give_up(struct source *source, const char *what)
{
	source->broken = what;
	return false;
}

/* In pieces that end with their segments. */
static bool put_lane(struct source *source, uint32_t lane, uint64_t head)
{
	uint64_t at = source->put[lane];
	if (head < at || head - at > source->log.file_bytes || head % 8 != 0)
		return give_up(source, "impossible-head");
	while (at < head) {
		uint64_t left = LOG_SEGMENT_BYTES - at % LOG_SEGMENT_BYTES;
		uint64_t length = head - at < left ? head - at : left;
		const uint8_t *bytes = log_at(&source->log, lane, at);
		if (bytes == NULL)
			return give_up(source, "missing-segment");
		uint64_t segment = (uint64_t)(bytes - source->log.segments) / LOG_SEGMENT_BYTES;
		ship_put_lane(&source->queue, (uint16_t)lane, (uint32_t)segment, at, (uint32_t)length);
		at += length;
	}
	source->lane_bytes += head - source->put[lane];
	source->put[lane] = head;
	return true;
}

/* The counters of waiting move all the time; the standby has no use for them. */
static bool header_moved(const struct ship_header *was, const struct ship_header *is)
{
	const size_t waits = SHIP_HEADER_WAITS_AT, rest = waits + 16;
	return memcmp(was->bytes, is->bytes, waits) != 0 ||
	       memcmp(was->bytes + rest, is->bytes + rest, sizeof was->bytes - rest) != 0;
}

static bool put_header(struct source *source)
{
	struct ship_header now;
	memcpy(&now, (const uint8_t *)source->log.header + SHIP_LOG_HEADER_BYTES, sizeof now);
	if (!header_moved(&source->header, &now) || !ship_queue_room_frame(&source->queue, sizeof now))
		return false;
	ship_put_bytes(&source->queue, SHIP_HEADER, 0, &now, sizeof now);
	source->header = now;
	return true;
}

static bool put_state(struct source *source, uint32_t lane)
{
	const struct log_lane *from = &source->log.lanes[lane];
	uint32_t state = atomic_load_explicit(&from->state, memory_order_relaxed);
	uint32_t tid = atomic_load_explicit(&from->kernel_tid, memory_order_relaxed);
	if (state == source->state[lane] && tid == source->kernel_tid[lane])
		return false;
	source->state[lane] = state;
	source->kernel_tid[lane] = tid;
	ship_put(&source->queue, SHIP_LANE_STATE, (uint16_t)lane, state, tid);
	return true;
}

static bool load_heads(const struct source *source, uint64_t heads[LOG_LANES_MAX])
{
	bool moved = false;
	for (uint32_t lane = 0; lane < source->log.lane_count; lane++) {
		heads[lane] = atomic_load_explicit(&source->log.lanes[lane].head, memory_order_acquire);
		moved |= heads[lane] != source->put[lane];
	}
	return moved;
}

bool source_cut(struct source *source)
{
	uint64_t heads[LOG_LANES_MAX];
	source->moved = false;
	if (source->broken != NULL || ship_queue_room_items(&source->queue) < source->items_a_cut_max)
		return false;
	bool moved = put_header(source);
	for (uint32_t lane = 0; lane < source->log.lane_count; lane++)
		moved |= put_state(source, lane);
	/* Twice: a lane that was loaded late may name what an early one had not reached; it has by the second time. */
	if (load_heads(source, heads) && load_heads(source, heads)) {
		moved = true;
		for (uint32_t lane = 0; lane < source->log.lane_count; lane++)
			if (heads[lane] != source->put[lane] && !put_lane(source, lane, heads[lane]))
				break;
	}
	return source->moved = moved;
}

uint64_t source_frames_used(const struct source *source)
{
	return source->frames_base + source->frames_put - source->frames_trimmed;
}

static bool standby_has_room(const struct source *source, uint64_t bytes)
{
	return source_frames_used(source) + bytes <= source->frames_room;
}

bool source_has_room(const struct source *source)
{
	return source->broken == NULL && ship_queue_room_items(&source->queue) >= source->items_a_cut_max + 2 &&
	       ship_queue_room_frame(&source->queue, SHIP_EGRESS_BYTES_MAX) &&
	       standby_has_room(source, EGRESS_ENTRY_BYTES + SOURCE_FRAMES_RESERVE);
}

bool source_has_room_for_frame(const struct source *source, uint32_t length)
{
	return source->broken == NULL && ship_queue_room_items(&source->queue) >= 2 * source->items_a_cut_max &&
	       ship_queue_room_frame(&source->queue, length + INGRESS_RESERVE_BYTES) &&
	       standby_has_room(source, ship_entry_size(length) + INGRESS_RESERVE_BYTES);
}

static void put_frame(struct source *source, enum ship_kind kind, const uint8_t *frame, uint32_t length, uint64_t wall_ns)
{
	ship_put_bytes(&source->queue, kind, wall_ns, frame, length);
	source->frames_put += ship_entry_size(length);
}

void source_put_ingress(struct source *source, const uint8_t *frame, uint32_t length, uint64_t wall_ns)
{
	put_frame(source, SHIP_INGRESS, frame, length, wall_ns);
}

/* TCP with SYN, FIN or RST: what the kernel chose (numbers, options) and no replay can compute. */
bool source_notes(const uint8_t *frame, uint32_t length)
{
	const uint32_t ip = 10 + 14; /* virtio, Ethernet */
	uint32_t tcp;
	if (length < ip + 40)
		return false;
	if (frame[22] == 0x08 && frame[23] == 0x00 && frame[ip + 9] == 6)
		tcp = ip + (frame[ip] & 15u) * 4;
	else if (frame[22] == 0x86 && frame[23] == 0xdd && frame[ip + 6] == 6)
		tcp = ip + 40;
	else
		return false;
	return tcp + 14 <= length && (frame[tcp + 13] & 7u) != 0;
}

uint64_t source_stamp(struct source *source, const uint8_t *frame, uint32_t length, uint64_t wall_ns)
{
	if (!source_has_room(source))
		return UINT64_MAX;
	source_cut(source);
	/* The recorder says so before it lets the application run on unrecorded: such output is never covered. */
	if (source->broken == NULL && (atomic_load(&source->log.header->lost) != 0 ||
				       atomic_load(&source->log.header->mode) != LOG_MODE_RECORD))
		give_up(source, "not-recorded");
	if (source->broken != NULL)
		return UINT64_MAX;
	if (source_notes(frame, length))
		put_frame(source, SHIP_EGRESS, frame, length < SHIP_EGRESS_BYTES_MAX ? length : SHIP_EGRESS_BYTES_MAX,
			  wall_ns);
	return source->queue.end;
}

bool source_can_mark(const struct source *source)
{
	return source->broken == NULL && ship_queue_room_items(&source->queue) > source->items_a_cut_max &&
	       standby_has_room(source, EGRESS_ENTRY_BYTES);
}

const char *source_mark(struct source *source, uint64_t epoch)
{
	/* A stamp leaves more room than this takes. What of the log does not fit now comes later: nobody minds. */
	INVARIANT(ship_queue_room_items(&source->queue) > 0);
	source_cut(source);
	if (source->broken != NULL)
		return "log-broken";
	/* Checkpoints that failed are never trimmed to; the oldest is surely one of them. */
	if (source->mark_count == SOURCE_MARKS)
		memmove(source->marks, source->marks + 1, --source->mark_count * sizeof *source->marks);
	struct source_mark *mark = &source->marks[source->mark_count++];
	*mark = (struct source_mark){.epoch = epoch, .offset = source->queue.end, .frames_put = source->frames_put};
	memcpy(mark->head, source->put, sizeof mark->head);
	ship_put(&source->queue, SHIP_CHECKPOINT, 0, 0, epoch);
	source->frames_put += ship_entry_size(0);
	return NULL;
}

int source_trim_lane(struct source *source, uint32_t lane, uint64_t position)
{
	if (lane >= source->log.lane_count || position > source->put[lane] ||
	    ship_queue_room_items(&source->queue) < 2)
		return -1;
	if (position <= source->trim_put[lane])
		return 0;
	source->trim_put[lane] = position;
	ship_put(&source->queue, SHIP_TRIM_LANE, (uint16_t)lane, 0, position);
	return 0;
}

/*
 * A thread that stands still has published at most one record (and the padding before it, and a check) beyond its own
 * position: what lies that far below its head, no copy of it will look at again.
 */
static uint64_t surely_needless(uint64_t head)
{
	const uint64_t margin = 2ull * LOG_RECORD_BYTES_MAX + 4096;
	return head > margin ? (head - margin) / LOG_SEGMENT_BYTES * LOG_SEGMENT_BYTES : 0;
}

/*
 * The frames of one epoch more are kept, as long as they are few: a connection whose handshake was before the checkpoint, and that was
 * accepted after it, is in neither the checkpoint nor the frames behind it (live/feed.h).
 */
static void trim_frames(struct source *source, const struct source_mark *mark)
{
	uint64_t before = source->frames_base + mark->frames_put - source->frames_trimmed;
	bool few = before <= source->frames_room / FRAMES_KEPT_PART;
	uint64_t epoch = few ? source->kept.epoch : mark->epoch;
	if (epoch != 0) {
		ship_put(&source->queue, SHIP_TRIM_FRAMES, 0, 0, epoch);
		source->frames_trimmed = few ? source->kept.frames_put : mark->frames_put;
		source->frames_base = 0;
	}
	source->kept.epoch = mark->epoch;
	source->kept.frames_put = mark->frames_put;
}

const char *source_trim(struct source *source, uint64_t epoch, bool lanes)
{
	unsigned at = 0;
	while (at < source->mark_count && source->marks[at].epoch != epoch)
		at++;
	if (at == source->mark_count)
		return "not-marked";
	if (ship_queue_room_items(&source->queue) < source->items_a_cut_max)
		return "log-full";
	for (uint32_t lane = 0; lanes && lane < source->log.lane_count; lane++)
		(void)source_trim_lane(source, lane, surely_needless(source->marks[at].head[lane]));
	trim_frames(source, &source->marks[at]);
	source->mark_count -= at + 1;
	memmove(source->marks, source->marks + at + 1, source->mark_count * sizeof *source->marks);
	return NULL;
}

static void forgotten(const struct ship_item *item, void *context)
{
	struct source *source = context;
	if (item->kind != SHIP_TRIM_LANE)
		return;
	/* The tail is the application's to spoil: bound what log_trim() has to do. */
	uint64_t tail = atomic_load(&source->log.lanes[item->lane].tail);
	if (item->position > tail && item->position - tail > source->log.file_bytes)
		give_up(source, "impossible-tail");
	else
		log_trim(&source->log, item->lane, item->position);
}

bool source_acked(struct source *source, uint64_t offset)
{
	return ship_queue_ack(&source->queue, offset, forgotten, source);
}
