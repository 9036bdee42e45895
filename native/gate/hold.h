/*
 * A queue of frames in one arena that is mapped once: held output on the way out, queued input on the way in.
 * Frames are stored as long as they came (a 64 KiB segmentation-offload frame takes 64 KiB, an ACK 100 bytes).
 */
#ifndef FT_GATE_HOLD_H
#define FT_GATE_HOLD_H

#include <stddef.h>
#include <stdint.h>

/* The largest frame a TAP hands over: 64 KiB of segmentation offload, its headers, the virtio header. */
#define FRAME_BYTES_MAX 69632u

#define HOLD_UNSETTLED UINT64_MAX

struct hold_frame {
	uint32_t length;
	uint32_t mark; /* says whether this is a frame or the arena's turn; anything else is corruption */
	uint64_t stamp; /* the epoch it belongs to; 0: none, may go whenever it is first; HOLD_UNSETTLED: not known yet */
	uint64_t arrived_ns;
	unsigned char bytes[];
};

struct hold {
	unsigned char *arena;
	size_t size;
	size_t head; /* oldest record */
	size_t tail; /* where the next record goes */
	size_t reserved; /* where hold_commit() will put it; SIZE_MAX: nothing reserved */
	size_t reserved_length;
	size_t frames;
	size_t bytes; /* of frames, without the arena's own overhead */
	uint64_t stamp_max; /* newest non-zero stamp inside; 0 when there is none */
	size_t unsettled; /* frames, the newest ones, that hold_settle() has to stamp */
	size_t unsettled_at; /* the oldest of them */
};

int hold_open(struct hold *hold, size_t arena_bytes); /* -1 with errno */
void hold_close(struct hold *hold);

/* Room for a frame of up to `length` bytes, or NULL when the bound is reached. The frame may be read into it. */
unsigned char *hold_reserve(struct hold *hold, size_t length);
/* Keeps the reserved frame, of which `length` bytes were used. Without this call the reservation lapses. */
void hold_commit(struct hold *hold, size_t length, uint64_t stamp, uint64_t now_ns);

/* The oldest frame, or NULL. Valid until hold_pop(). */
const struct hold_frame *hold_oldest(const struct hold *hold);
void hold_pop(struct hold *hold);
/* Stamps what was committed as HOLD_UNSETTLED, and until then does not leave. */
void hold_settle(struct hold *hold, uint64_t stamp);
/* Gives all that is inside one stamp, which means something else from now on. */
void hold_restamp(struct hold *hold, uint64_t stamp);
/* Forgets everything; returns how many frames that were. */
size_t hold_clear(struct hold *hold);
/* Bytes of the arena in use, with overhead: what the bound is about. */
size_t hold_used(const struct hold *hold);

#endif
