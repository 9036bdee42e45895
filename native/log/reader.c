#include "log/reader.h"

#include <string.h>

#include "crc/crc32c.h"

static const struct log_kind_info log_kinds[LOG_KIND_MAX] = {
	[LOG_PAD] = {"pad", LOG_SHAPE_BARE},
	[LOG_CHECK] = {"check", LOG_SHAPE_CHECK},
	[LOG_FLUSH] = {"flush", LOG_SHAPE_BARE},
	[LOG_AFTER] = {"after", LOG_SHAPE_VALUE},
	[LOG_LOCK] = {"lock", LOG_SHAPE_SYNC},
	[LOG_TRY_FAILED] = {"try-failed", LOG_SHAPE_SYNC},
	[LOG_READ_LOCK] = {"read-lock", LOG_SHAPE_SYNC},
	[LOG_WRITE_LOCK] = {"write-lock", LOG_SHAPE_SYNC},
	[LOG_WAIT_END] = {"wait-end", LOG_SHAPE_SYNC},
	[LOG_BARRIER_DONE] = {"barrier-done", LOG_SHAPE_SYNC},
	[LOG_SEM_POST] = {"sem-post", LOG_SHAPE_SYNC},
	[LOG_SEM_WAIT] = {"sem-wait", LOG_SHAPE_SYNC},
	[LOG_SEM_FAILED] = {"sem-failed", LOG_SHAPE_SYNC},
	[LOG_BARRIER] = {"barrier", LOG_SHAPE_SYNC},
	[LOG_ONCE_RUN] = {"once-run", LOG_SHAPE_SYNC},
	[LOG_ONCE_DONE] = {"once-done", LOG_SHAPE_SYNC},
	[LOG_THREAD_CREATE] = {"thread-create", LOG_SHAPE_SYNC},
	[LOG_THREAD_JOIN] = {"thread-join", LOG_SHAPE_SYNC},
	[LOG_THREAD_END] = {"thread-end", LOG_SHAPE_BARE},
	[LOG_SIGNAL] = {"signal", LOG_SHAPE_CALL},
	[LOG_SOLO_BEGIN] = {"solo-begin", LOG_SHAPE_VALUE},
	[LOG_SOLO_END] = {"solo-end", LOG_SHAPE_VALUE},
	[LOG_SOLO_PASS] = {"solo-pass", LOG_SHAPE_VALUE},
	[LOG_READ] = {"read", LOG_SHAPE_CALL},
	[LOG_OUTPUT] = {"output", LOG_SHAPE_OUTPUT},
	[LOG_OUTPUT_SHORT] = {"output-short", LOG_SHAPE_CALL},
	[LOG_SOCKET_OPTION] = {"socket-option", LOG_SHAPE_CALL},
	[LOG_SOCKET_NAME] = {"socket-name", LOG_SHAPE_CALL},
	[LOG_SOCKET_CALL] = {"socket-call", LOG_SHAPE_CALL},
	[LOG_POLL] = {"poll", LOG_SHAPE_CALL},
	[LOG_EPOLL_WAIT] = {"epoll-wait", LOG_SHAPE_CALL},
	[LOG_EPOLL_CTL] = {"epoll-ctl", LOG_SHAPE_CALL},
	[LOG_CLOCK] = {"clock", LOG_SHAPE_VALUE},
	[LOG_CLOCK_RESULT] = {"clock-result", LOG_SHAPE_CALL},
	[LOG_REALTIME_DELTA] = {"realtime+", LOG_SHAPE_BARE},
	[LOG_MONOTONIC_DELTA] = {"monotonic+", LOG_SHAPE_BARE},
	[LOG_COARSE_DELTA] = {"coarse+", LOG_SHAPE_BARE},
	[LOG_SLEEP] = {"sleep", LOG_SHAPE_CALL},
	[LOG_RANDOM] = {"random", LOG_SHAPE_CALL},
	[LOG_IDENTITY] = {"identity", LOG_SHAPE_CALL},
	[LOG_STREAM_READ] = {"stream-read", LOG_SHAPE_CALL},
	[LOG_STAT] = {"stat", LOG_SHAPE_CALL},
	[LOG_FILE_CALL] = {"file-call", LOG_SHAPE_CALL},
	[LOG_FILE_READ] = {"file-read", LOG_SHAPE_CALL},
	[LOG_FILE_WRITE] = {"file-write", LOG_SHAPE_CALL},
	[LOG_USAGE] = {"usage", LOG_SHAPE_CALL},
	[LOG_MESSAGE] = {"message", LOG_SHAPE_CALL},
	[LOG_SOCKET] = {"socket", LOG_SHAPE_TURN},
	[LOG_ACCEPT] = {"accept", LOG_SHAPE_TURN},
	[LOG_CLOSE] = {"close", LOG_SHAPE_TURN},
	[LOG_OPEN] = {"open", LOG_SHAPE_TURN},
	[LOG_DUP] = {"dup", LOG_SHAPE_TURN},
	[LOG_PIPE] = {"pipe", LOG_SHAPE_TURN},
	[LOG_EVENTFD] = {"eventfd", LOG_SHAPE_TURN},
	[LOG_EPOLL_CREATE] = {"epoll-create", LOG_SHAPE_TURN},
	[LOG_CHANNEL_READ] = {"channel-read", LOG_SHAPE_TURN},
	[LOG_CHANNEL_WRITE] = {"channel-write", LOG_SHAPE_TURN},
	[LOG_FORK] = {"fork", LOG_SHAPE_TURN},
	[LOG_TURN_CALL] = {"turn-call", LOG_SHAPE_TURN},
	[LOG_WAIT_CHILD] = {"wait-child", LOG_SHAPE_CALL},
};

static const uint8_t shape_words[] = {
	[LOG_SHAPE_BARE] = 1, [LOG_SHAPE_CHECK] = 4, [LOG_SHAPE_VALUE] = 2, [LOG_SHAPE_SYNC] = 2,
	[LOG_SHAPE_CALL] = 2, [LOG_SHAPE_OUTPUT] = 2, [LOG_SHAPE_TURN] = 3,
};

struct log_kind_info log_kind_of(uint8_t kind)
{
	return kind < LOG_KIND_MAX ? log_kinds[kind] : (struct log_kind_info){0};
}

static uint32_t refuse(const char **why, const char *what)
{
	*why = what;
	return 0;
}

uint32_t log_decode(const uint8_t *at, uint64_t available, struct log_event *event, const char **why)
{
	if (available < sizeof(struct log_record))
		return refuse(why, "cut off");
	memset(event, 0, sizeof *event);
	memcpy(&event->record, at, sizeof event->record);
	struct log_kind_info info = log_kind_of(event->record.kind);
	uint32_t words = event->record.words, bytes = words * 8;
	if (info.name == NULL)
		return refuse(why, "unknown kind");
	event->shape = info.shape;
	/* PAD's words are not there to be read: it says how much to skip, in `object`, and is one word long. */
	bool has_payload = info.shape == LOG_SHAPE_CALL || info.shape == LOG_SHAPE_TURN;
	if (words < shape_words[info.shape] || (!has_payload && words != shape_words[info.shape]) ||
	    bytes > LOG_RECORD_BYTES_MAX)
		return refuse(why, "impossible length");
	if (bytes > available)
		return refuse(why, "cut off");
	const uint8_t *body = at + 8;
	switch (info.shape) {
	case LOG_SHAPE_BARE: break;
	case LOG_SHAPE_CHECK: memcpy(&event->check, body, sizeof event->check); break;
	case LOG_SHAPE_VALUE: memcpy(&event->value, body, 8); break;
	case LOG_SHAPE_SYNC: memcpy(&event->sync, body, 8); break;
	case LOG_SHAPE_OUTPUT: memcpy(&event->output, body, 8); break;
	case LOG_SHAPE_TURN: memcpy(&event->sync, body + 8, 8); /* fall through */
	case LOG_SHAPE_CALL: memcpy(&event->call, body, 8); break;
	}
	event->payload = at + 8u * shape_words[info.shape];
	event->payload_bytes = bytes - 8u * shape_words[info.shape];
	return bytes;
}

void log_cursor_open(struct log_cursor *cursor, const struct log_file *log, uint32_t lane, uint64_t from)
{
	cursor->log = log;
	cursor->lane = lane;
	cursor->position = from;
	cursor->end = atomic_load_explicit(&log->lanes[lane].head, memory_order_acquire);
	cursor->ordinal = 0;
	cursor->crc = 0;
	cursor->checked = from == 0;
	cursor->complaint = NULL;
}

static enum log_walk stop(struct log_cursor *cursor, enum log_walk how, const char *why)
{
	cursor->end = cursor->position;
	cursor->complaint = why;
	return how;
}

static enum log_walk check(struct log_cursor *cursor, const struct log_event *event)
{
	if (event->check.position != cursor->position)
		return stop(cursor, LOG_WALK_CORRUPT, "a check of another position");
	if (cursor->checked && event->record.object != cursor->crc)
		return stop(cursor, LOG_WALK_CORRUPT, "the checksum does not match");
	if (cursor->checked && event->check.ordinal != cursor->ordinal)
		return stop(cursor, LOG_WALK_CORRUPT, "records are missing");
	cursor->ordinal = event->check.ordinal;
	cursor->checked = true;
	cursor->crc = 0;
	return LOG_WALK_EVENT;
}

enum log_walk log_cursor_next(struct log_cursor *cursor, struct log_event *event)
{
	if (cursor->complaint != NULL)
		return LOG_WALK_CORRUPT;
	if (cursor->position >= cursor->end)
		return LOG_WALK_END;
	if (cursor->position % 8 != 0)
		return stop(cursor, LOG_WALK_CORRUPT, "an odd position");
	const uint8_t *at = log_at(cursor->log, cursor->lane, cursor->position);
	if (at == NULL)
		return stop(cursor, LOG_WALK_TORN, "a segment is missing");
	uint64_t left = LOG_SEGMENT_BYTES - cursor->position % LOG_SEGMENT_BYTES;
	uint64_t available = cursor->end - cursor->position < left ? cursor->end - cursor->position : left;
	struct log_record first;
	memcpy(&first, at, sizeof first);
	uint64_t wanted = (uint64_t)first.words * 8;
	if (wanted > available)
		return stop(cursor, wanted > left ? LOG_WALK_CORRUPT : LOG_WALK_TORN, "cut off");
	if (wanted < 8 || wanted > LOG_RECORD_BYTES_MAX)
		return stop(cursor, LOG_WALK_CORRUPT, "impossible length");
	memcpy(cursor->buffer, at, wanted);
	const char *why = NULL;
	if (log_decode(cursor->buffer, wanted, event, &why) != wanted)
		return stop(cursor, LOG_WALK_CORRUPT, why != NULL ? why : "changed while it was read");
	event->position = cursor->position;
	event->ordinal = cursor->ordinal;
	if (event->record.kind == LOG_CHECK) {
		enum log_walk walk = check(cursor, event);
		if (walk != LOG_WALK_EVENT)
			return walk;
	} else {
		cursor->crc = ft_crc32c(cursor->crc, cursor->buffer, wanted);
	}
	cursor->ordinal++;
	cursor->position += wanted;
	if (event->record.kind == LOG_PAD) {
		if (event->record.object != left)
			return stop(cursor, LOG_WALK_CORRUPT, "padding that does not end with its segment");
		cursor->position += left - wanted;
	}
	return LOG_WALK_EVENT;
}
