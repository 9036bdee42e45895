/*
 * Walks a lane of a log that may be hostile or torn. Every record is copied out before it is looked at, so a writer that
 * goes on meanwhile cannot change what was checked. Stops for good at the first thing that is wrong.
 */
#ifndef FT_LOG_READER_H
#define FT_LOG_READER_H
#include "log/file.h"

struct log_kind_info {
	const char *name; /* NULL: no such kind */
	enum log_shape shape;
};
/* Of any number; the unknown ones have no name. */
struct log_kind_info log_kind_of(uint8_t kind);

struct log_event {
	struct log_record record;
	enum log_shape shape;
	uint64_t position; /* of its first byte in the lane */
	uint64_t ordinal;  /* in the lane, from the first CHECK on; counted from `from` before that */
	struct log_call call;     /* CALL, TURN */
	struct log_sync sync;     /* SYNC, TURN */
	struct log_output output; /* OUTPUT */
	struct log_check check;   /* CHECK */
	uint64_t value;           /* VALUE */
	const uint8_t *payload;   /* in the cursor: good until the next call */
	uint32_t payload_bytes;   /* whole words */
};

enum log_walk {
	LOG_WALK_EVENT = 1,
	LOG_WALK_END = 0,      /* at the head */
	LOG_WALK_TORN = -1,    /* a record that is cut off by the head or by a missing segment: there is none from here on */
	LOG_WALK_CORRUPT = -2, /* an unknown kind, an impossible length, a wrong checksum */
};

struct log_cursor {
	const struct log_file *log;
	uint32_t lane;
	uint64_t position, end;
	uint64_t ordinal;
	uint32_t crc;
	bool checked; /* the crc covers everything since the last CHECK */
	const char *complaint;
	uint8_t buffer[LOG_RECORD_BYTES_MAX];
};

/* From `from` (at the start of a record) to the head as it is now. A cursor is big: keep it off small stacks. */
void log_cursor_open(struct log_cursor *cursor, const struct log_file *log, uint32_t lane, uint64_t from);
enum log_walk log_cursor_next(struct log_cursor *cursor, struct log_event *event);

/* One record at `at`, of which `available` bytes exist. Its length in bytes, or 0 and *why. Checks the shape, not the crc. */
uint32_t log_decode(const uint8_t *at, uint64_t available, struct log_event *event, const char **why);
#endif
