/*
 * What the primary puts into the shipping stream: the log as it grows, frames, checkpoints, trims.
 *
 * Invariants:
 *   1. A stamp is the stream's end after a cut that was taken after the stamped frame was seen.
 *   2. The log is trimmed only when the standby has acknowledged the trim: until then its bytes are still to be sent
 *      again, and a segment is never in use by two lanes on the mirror.
 *   3. The frames that the standby must keep never exceed its room: `frames_used` here is never less than there.
 *   4. What the application has written into the shared file is believed only within bounds; else the source is
 *      broken, by name, and stamps nothing more.
 */
#ifndef FT_SHIP_SOURCE_H
#define FT_SHIP_SOURCE_H

#include "ship/queue.h"

#define SOURCE_MARKS 64u
#define SOURCE_FRAMES_RESERVE 8192u /* of the standby's room, for checkpoints */

struct source_mark {
	uint64_t epoch;
	uint64_t offset; /* of the CHECKPOINT entry */
	uint64_t frames_put; /* bytes of frames put before it */
	uint64_t head[LOG_LANES_MAX];
};

struct source {
	bool open;
	const char *broken; /* NULL, or what is wrong with the log */
	struct log_file log;
	struct ship_queue queue;
	uint8_t stream[SHIP_STREAM_BYTES];
	uint64_t generation;
	uint64_t put[LOG_LANES_MAX]; /* lane bytes below this are in the stream */
	uint32_t state[LOG_LANES_MAX], kernel_tid[LOG_LANES_MAX];
	uint64_t trim_put[LOG_LANES_MAX];
	struct ship_header header;
	uint64_t items_a_cut_max;
	uint64_t lane_bytes; /* put, in all */
	uint64_t frames_put, frames_trimmed; /* bytes of entries; the difference is used at the standby */
	bool frames_base_known;
	uint64_t frames_base; /* what the standby kept from streams before, and this one has not trimmed */
	uint64_t frames_room; /* at the standby; 0: not known yet */
	struct { uint64_t epoch, frames_put; } kept; /* the checkpoint before the last one that was trimmed to; epoch 0: none */
	struct source_mark marks[SOURCE_MARKS];
	unsigned mark_count;
	bool moved; /* the last cut found something new */
};

/* Maps the log and begins a stream. 0, or -errno. */
int source_open(struct source *source, const char *path, uint64_t generation, uint64_t frames_bytes);
void source_close(struct source *source);

/* Puts what the log has gained. Returns whether there was anything; without room for all of it, nothing is put. */
bool source_cut(struct source *source);
/* Whether a stamp would find room, whatever the log has gained. It leaves some for a mark. */
bool source_has_room(const struct source *source);
bool source_has_room_for_frame(const struct source *source, uint32_t length);
/* A frame that was given to the container. Room must have been asked for. */
void source_put_ingress(struct source *source, const uint8_t *frame, uint32_t length, uint64_t wall_ns);
/* Whether a stamp for this frame puts something of the frame itself, and so has to be taken before the next frame. */
bool source_notes(const uint8_t *frame, uint32_t length);
/* The position that covers all that happened so far; UINT64_MAX when the source is broken or has no room. */
uint64_t source_stamp(struct source *source, const uint8_t *frame, uint32_t length, uint64_t wall_ns);
/* Asked before the container's output is drained, which puts more. */
bool source_can_mark(const struct source *source);
/* With the container frozen and its output drained. NULL, or a code. */
const char *source_mark(struct source *source, uint64_t epoch);
/* `position` of a lane is below the checkpoint: 0, or -1 when it is not in the stream yet. */
int source_trim_lane(struct source *source, uint32_t lane, uint64_t position);
/* Everything that the checkpoint of `epoch` made needless, as far as this side knows. NULL, or a code. */
const char *source_trim(struct source *source, uint64_t epoch, bool lanes);
/* The standby's cumulative ack. False: it cannot be right. */
bool source_acked(struct source *source, uint64_t offset);
uint64_t source_frames_used(const struct source *source);

#endif
