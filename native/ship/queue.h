/*
 * The shipping stream at the primary, from what is not acknowledged yet to its end. Bytes of the log stay where
 * they are (in the log, which is only trimmed below what is acknowledged); frames are copied into a ring.
 *
 * Invariants, asserted in queue.c:
 *   1. acked <= end, and both only go up within a stream. Where to send from falls back on a reconnect.
 *   2. Position and sequence of an entry are settled when it is put, and so is its size.
 *   3. Nothing grows: without room nothing is put.
 */
#ifndef FT_SHIP_QUEUE_H
#define FT_SHIP_QUEUE_H

#include "log/file.h"
#include "ship/format.h"

struct ship_item {
	uint64_t offset; /* of its first byte in the stream */
	uint64_t position;
	uint64_t frame_at; /* of its payload in the ring of frames */
	uint32_t length;
	uint32_t segment;
	uint16_t kind;
	uint16_t lane;
};

struct ship_queue {
	struct ship_item *items;
	uint64_t item_mask;
	uint64_t first, next, last; /* sequences: oldest unacknowledged, next to send, next to put */
	uint64_t top; /* highest `next` so far: nothing beyond can have been stored */
	uint64_t within; /* bytes of `next` that are sent */
	uint64_t acked, end; /* positions in the stream */
	uint8_t *frames; /* a ring */
	uint64_t frames_bytes, frames_head, frames_tail;
	const struct log_file *log;
	struct ship_entry sealed; /* of `next`, once a byte of it was sent */
};

int ship_queue_open(struct ship_queue *queue, uint64_t items, uint64_t frames_bytes); /* -1 with errno */
void ship_queue_close(struct ship_queue *queue);
/* A new stream over `log`. */
void ship_queue_reset(struct ship_queue *queue, const struct log_file *log);

uint64_t ship_queue_room_items(const struct ship_queue *queue);
bool ship_queue_room_frame(const struct ship_queue *queue, uint32_t length);

void ship_put(struct ship_queue *queue, enum ship_kind kind, uint16_t lane, uint32_t segment, uint64_t position);
void ship_put_lane(struct ship_queue *queue, uint16_t lane, uint32_t segment, uint64_t position, uint32_t length);
/* Copies the payload. Room must have been asked for. */
void ship_put_bytes(struct ship_queue *queue, enum ship_kind kind, uint64_t position, const void *bytes, uint32_t length);

/* Copies the next bytes of the stream, at most `size`, and moves the place to go on from. */
size_t ship_queue_fill(struct ship_queue *queue, uint8_t *out, size_t size);
bool ship_queue_unsent(const struct ship_queue *queue);
/* Goes back to `offset`, where entry `sequence` begins. False: there is no such place between acked and end. */
bool ship_queue_resume(struct ship_queue *queue, uint64_t offset, uint64_t sequence);
/* Everything before `offset` is stored. False: nothing was sent that far, or no entry ends there. */
bool ship_queue_ack(struct ship_queue *queue, uint64_t offset, void (*forgotten)(const struct ship_item *, void *),
		    void *context);

#endif
