#include "ship/queue.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "gate/invariant.h"

static void *map(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

int ship_queue_open(struct ship_queue *queue, uint64_t items, uint64_t frames_bytes)
{
	uint64_t count = 1024;
	while (count < items)
		count *= 2;
	memset(queue, 0, sizeof *queue);
	queue->item_mask = count - 1;
	queue->frames_bytes = (frames_bytes + 4095) & ~4095ull;
	queue->items = map(count * sizeof *queue->items);
	queue->frames = map(queue->frames_bytes);
	if (queue->items != NULL && queue->frames != NULL)
		return 0;
	int error = errno;
	ship_queue_close(queue);
	errno = error;
	return -1;
}

void ship_queue_close(struct ship_queue *queue)
{
	if (queue->items != NULL)
		munmap(queue->items, (queue->item_mask + 1) * sizeof *queue->items);
	if (queue->frames != NULL)
		munmap(queue->frames, queue->frames_bytes);
	memset(queue, 0, sizeof *queue);
}

void ship_queue_reset(struct ship_queue *queue, const struct log_file *log)
{
	queue->first = queue->next = queue->last = queue->top = 0;
	queue->within = queue->acked = queue->end = 0;
	queue->frames_head = queue->frames_tail = 0;
	queue->log = log;
}

uint64_t ship_queue_room_items(const struct ship_queue *queue)
{
	return queue->item_mask + 1 - (queue->last - queue->first);
}

/* A frame is never split: where it would, the ring's last bytes are left out. */
static uint64_t frame_place(const struct ship_queue *queue, uint32_t length)
{
	uint64_t at = queue->frames_head % queue->frames_bytes;
	return at + length <= queue->frames_bytes ? queue->frames_head : queue->frames_head + queue->frames_bytes - at;
}

bool ship_queue_room_frame(const struct ship_queue *queue, uint32_t length)
{
	return frame_place(queue, length) + length - queue->frames_tail <= queue->frames_bytes;
}

static struct ship_item *item_at(const struct ship_queue *queue, uint64_t sequence)
{
	return &queue->items[sequence & queue->item_mask];
}

static struct ship_item *put(struct ship_queue *queue, enum ship_kind kind, uint16_t lane, uint32_t segment,
			     uint64_t position, uint32_t length)
{
	INVARIANT(ship_queue_room_items(queue) > 0);
	INVARIANT(length <= SHIP_PAYLOAD_BYTES_MAX);
	struct ship_item *item = item_at(queue, queue->last++);
	*item = (struct ship_item){.offset = queue->end, .position = position, .frame_at = queue->frames_head,
		.length = length, .segment = segment, .kind = (uint16_t)kind, .lane = lane};
	queue->end += ship_entry_size(length);
	return item;
}

void ship_put(struct ship_queue *queue, enum ship_kind kind, uint16_t lane, uint32_t segment, uint64_t position)
{
	put(queue, kind, lane, segment, position, 0);
}

void ship_put_lane(struct ship_queue *queue, uint16_t lane, uint32_t segment, uint64_t position, uint32_t length)
{
	INVARIANT(position % LOG_SEGMENT_BYTES + length <= LOG_SEGMENT_BYTES && segment < queue->log->segment_count);
	put(queue, SHIP_LANE, lane, segment, position, length);
}

void ship_put_bytes(struct ship_queue *queue, enum ship_kind kind, uint64_t position, const void *bytes, uint32_t length)
{
	INVARIANT(ship_queue_room_frame(queue, length));
	struct ship_item *item = put(queue, kind, 0, 0, position, length);
	item->frame_at = frame_place(queue, length);
	memcpy(queue->frames + item->frame_at % queue->frames_bytes, bytes, length);
	queue->frames_head = item->frame_at + length;
}

static const uint8_t *payload_of(const struct ship_queue *queue, const struct ship_item *item)
{
	if (item->kind == SHIP_LANE)
		return queue->log->segments + (uint64_t)item->segment * LOG_SEGMENT_BYTES +
		       item->position % LOG_SEGMENT_BYTES;
	return queue->frames + item->frame_at % queue->frames_bytes;
}

static void seal(struct ship_queue *queue, const struct ship_item *item)
{
	queue->sealed = (struct ship_entry){.kind = item->kind, .lane = item->lane, .length = item->length,
		.segment = item->segment, .sequence = queue->next, .position = item->position};
	ship_entry_seal(&queue->sealed, payload_of(queue, item));
}

/* What of `source` (its `skip` first bytes left out) fits. */
static size_t copy(uint8_t *out, size_t size, const void *source, uint64_t length, uint64_t skip)
{
	if (skip >= length)
		return 0;
	size_t bytes = length - skip < size ? (size_t)(length - skip) : size;
	memcpy(out, (const uint8_t *)source + skip, bytes);
	return bytes;
}

static size_t fill_one(struct ship_queue *queue, const struct ship_item *item, uint8_t *out, size_t size)
{
	static const uint8_t zeros[8];
	const uint64_t header = sizeof queue->sealed;
	size_t done = 0;
	if (queue->within < header)
		done += copy(out, size, &queue->sealed, header, queue->within);
	uint64_t at = queue->within + done;
	if (at >= header && at < header + item->length)
		done += copy(out + done, size - done, payload_of(queue, item), item->length, at - header);
	at = queue->within + done;
	if (at >= header + item->length)
		done += copy(out + done, size - done, zeros, ship_padded(item->length) - item->length,
			     at - header - item->length);
	return done;
}

size_t ship_queue_fill(struct ship_queue *queue, uint8_t *out, size_t size)
{
	size_t filled = 0;
	while (queue->next < queue->last && filled < size) {
		const struct ship_item *item = item_at(queue, queue->next);
		if (queue->within == 0)
			seal(queue, item);
		size_t done = fill_one(queue, item, out + filled, size - filled);
		filled += done;
		queue->within += done;
		if (queue->within < ship_entry_size(item->length))
			break;
		queue->next++;
		queue->within = 0;
		if (queue->next > queue->top)
			queue->top = queue->next;
	}
	return filled;
}

bool ship_queue_unsent(const struct ship_queue *queue)
{
	return queue->next < queue->last;
}

/* The sequence of the entry that begins at `offset`, between two sequences; the last one when there is none. */
static uint64_t find(const struct ship_queue *queue, uint64_t low, uint64_t high, uint64_t offset)
{
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (item_at(queue, middle)->offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool begins_at(const struct ship_queue *queue, uint64_t sequence, uint64_t offset)
{
	return sequence == queue->last ? offset == queue->end : item_at(queue, sequence)->offset == offset;
}

bool ship_queue_resume(struct ship_queue *queue, uint64_t offset, uint64_t sequence)
{
	if (sequence < queue->first || sequence > queue->last || !begins_at(queue, sequence, offset))
		return false;
	queue->next = sequence;
	queue->within = 0;
	return true;
}

bool ship_queue_ack(struct ship_queue *queue, uint64_t offset, void (*forgotten)(const struct ship_item *, void *),
		    void *context)
{
	if (offset < queue->acked)
		return false;
	uint64_t sequence = find(queue, queue->first, queue->top, offset);
	if (!begins_at(queue, sequence, offset))
		return false;
	if (sequence > queue->next)
		(void)ship_queue_resume(queue, offset, sequence);
	for (; queue->first < sequence; queue->first++) {
		struct ship_item *item = item_at(queue, queue->first);
		if (item->kind != SHIP_LANE && item->length > 0)
			queue->frames_tail = item->frame_at + item->length;
		if (forgotten != NULL)
			forgotten(item, context);
	}
	queue->acked = offset;
	INVARIANT(queue->acked <= queue->end && queue->first <= queue->next);
	return true;
}
