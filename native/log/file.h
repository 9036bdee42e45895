/*
 * The shared file: making, mapping, checking, finding bytes, taking and trimming segments. No allocation; safe in a
 * preloaded library. Functions that can fail return 0 or -errno unless they say otherwise.
 */
#ifndef FT_LOG_FILE_H
#define FT_LOG_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include "log/format.h"

struct log_file {
	struct log_header *header;
	struct log_report *report;
	struct log_lane *lanes;
	_Atomic uint64_t *directory; /* lane_count * segment_count entries */
	_Atomic uint64_t *in_use;    /* a bit a segment */
	uint8_t *segments;
	uint32_t lane_count, segment_count; /* as checked when it was mapped, not as the file says now */
	uint64_t file_bytes;
};

uint64_t log_file_bytes(uint32_t lane_count, uint32_t segment_count);
/* Makes (or empties) the file, in mode `mode`. */
int log_create(const char *path, uint32_t lane_count, uint32_t segment_count, enum log_mode mode);
/* -EBADMSG: not such a file or damaged; -EPROTO: another version of the format. */
int log_map(const char *path, bool writable, struct log_file *out);
/* Of an error of log_map(), for a person. */
const char *log_why(int error);
void log_unmap(struct log_file *log);

/* The bytes of a lane from `position` to the end of their segment, or NULL if no segment holds them. */
static inline uint8_t *log_at(const struct log_file *log, uint32_t lane, uint64_t position)
{
	uint64_t part = position / LOG_SEGMENT_BYTES;
	uint64_t entry = atomic_load_explicit(
		&log->directory[(uint64_t)lane * log->segment_count + part % log->segment_count], memory_order_acquire);
	if (entry == 0 || log_entry_part(entry) != part || log_entry_segment(entry) >= log->segment_count)
		return NULL;
	return log->segments + (uint64_t)log_entry_segment(entry) * LOG_SEGMENT_BYTES + position % LOG_SEGMENT_BYTES;
}

/* Gives the lane a segment for `position` (or finds that it has one). NULL: none is free. */
uint8_t *log_extend(const struct log_file *log, uint32_t lane, uint64_t position);
/* Forgets what is below `position`, and gives back the segments that are wholly below it. One caller at a time. */
void log_trim(const struct log_file *log, uint32_t lane, uint64_t position);
/* Bytes that are free, in whole segments. */
uint64_t log_free_bytes(const struct log_file *log);
#endif
