/*
 * The standby's copy of the log: same size, same directory, same bytes at the same offsets, same heads, so that a
 * process restored from a checkpoint finds at its position what happened next. And the frames file beside it.
 *
 * Invariants:
 *   1. A head moves only after its bytes; it never falls. A lane's bytes come without a gap.
 *   2. A segment belongs to one lane. Bytes below a lane's tail are not taken again: saying things twice is harmless.
 *   3. Nothing that was stored is touched by an entry that is refused.
 *   4. A mirror of one log is never made into another's; and a log that was once written here (by an application, or
 *      because the standby took over) is no mirror: only one that begins and grows with its frames file is.
 */
#ifndef FT_SHIP_MIRROR_H
#define FT_SHIP_MIRROR_H

#include "log/file.h"
#include "ship/frames.h"

struct mirror {
	bool open; /* the frames file; the log comes with the first hello */
	bool has_log;
	char log_path[256];
	struct log_file log;
	struct room room;
	struct frames frames;
	uint64_t lane_bytes; /* stored by this process */
};

/* 0 or -errno. Takes up what is there. */
int mirror_open(struct mirror *mirror, const char *log_path, const char *frames_path, uint64_t ring_bytes);
void mirror_close(struct mirror *mirror);
/* The log that a source says it has. Makes the file when there is none. */
enum ship_verdict mirror_adopt_log(struct mirror *mirror, const uint8_t log_header[SHIP_LOG_HEADER_BYTES]);
/* A stream goes on, or begins. Sets where it goes on from. */
enum ship_verdict mirror_adopt_stream(struct mirror *mirror, uint64_t generation,
				      const uint8_t stream[SHIP_STREAM_BYTES]);

enum mirror_result { MIRROR_STORED, MIRROR_FULL, MIRROR_CORRUPT };
/* One whole entry, verified. MIRROR_FULL: the tmpfs has no room; try again later. */
enum mirror_result mirror_apply(struct mirror *mirror, const struct ship_entry *entry, const uint8_t *bytes,
				const uint8_t *payload);
/* It is being used: nobody may add to it, now or later. */
void mirror_spend(struct mirror *mirror);
/* What was applied is now what is acknowledged. */
void mirror_commit(struct mirror *mirror);

#endif
