/*
 * The frames file of a standby: what went into the container (and what opened and ended connections) since the last
 * checkpoint, as entries of the stream in a ring; and how far the stream is stored.
 *
 *   page 0: header, then two states of which `active` names the true one | ring of `ring_bytes`
 *
 * Invariants: the other state is written whole before `active` names it, so a gate that dies at any instant leaves an old
 * truth or a new one; bytes of the ring between tail and head are never written.
 */
#ifndef FT_SHIP_FRAMES_H
#define FT_SHIP_FRAMES_H

#include <stdatomic.h>

#include "ship/format.h"
#include "ship/room.h"

#define FRAMES_MAGIC 0x3130534d41524654ull /* "TFRAMS01" */
#define FRAMES_VERSION 1u
#define FRAMES_PAGE_BYTES 4096u
#define FRAMES_RING_BYTES_MIN (1u << 20)
#define FRAMES_RING_BYTES_MAX (1ull << 34)

struct frames_state {
	uint64_t generation;
	uint8_t stream[SHIP_STREAM_BYTES];
	uint64_t offset, sequence; /* of the stream: stored before this */
	uint64_t head, tail; /* of the ring, counted from its beginning, never falling */
	uint64_t checkpoint; /* epoch of the newest CHECKPOINT entry */
	uint64_t trimmed; /* epoch up to which frames were forgotten */
	uint64_t spent; /* not 0: what is here has been taken over; nothing is added any more */
};

struct frames_header {
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* of the first 64 bytes with this field 0 */
	uint64_t ring_bytes;
	uint8_t reserved[40];
	_Atomic uint32_t active;
	uint8_t reserved_2[60];
	struct frames_state states[2];
};

struct frames {
	struct frames_header *header;
	uint8_t *ring;
	uint64_t ring_bytes;
	struct frames_state now; /* not yet the file's */
	struct room room;
	bool made; /* by this call of frames_open() */
};

/* Opens, or makes with a ring of `ring_bytes` when there is none. 0, -EBADMSG, -EPROTO (another version), -errno. */
int frames_open(struct frames *frames, const char *path, uint64_t ring_bytes);
/* Only to read it. */
int frames_open_reader(struct frames *frames, const char *path);
void frames_close(struct frames *frames);
/* A whole entry as it came. 0; -ENOSPC: no room now; -EBADMSG: beyond what was ever granted. */
int frames_append(struct frames *frames, const uint8_t *entry, uint64_t size);
/* Forgets what is before the checkpoint of `epoch`. False: the ring is not sound. */
bool frames_trim(struct frames *frames, uint64_t epoch);
/* Makes `now` the file's truth. */
void frames_commit(struct frames *frames);
static inline uint64_t frames_used(const struct frames *frames) { return frames->now.head - frames->now.tail; }

/* The entry at ring position `at` (tail first); its payload, whole, goes to `payload`. 0: at the end. -1: corrupt. Else its size. */
int64_t frames_read(const struct frames *frames, uint64_t at, struct ship_entry *entry, uint8_t *payload,
		    uint64_t payload_bytes_max);

#endif
