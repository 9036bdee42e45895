#include "live/table.h"

#include <stdlib.h>
#include <string.h>

#include "crc/crc32c.h"

enum { HEADER_CRC_AT = 36, BODY_CRC_AT = 32 };
enum {
	BIT_OPENED = 1, BIT_BY_REMOTE = 2, BIT_ADOPTED = 4, BIT_WSCALE = 8, BIT_SACK = 16, BIT_TIMESTAMPS = 32,
	BIT_SEND_NEXT = 64, BIT_LOCAL_FIN = 128, BIT_REMOTE_FIN = 256, BIT_HEARD = 512, BIT_RECEIVE = 1024, BIT_CLOCK = 2048,
	BIT_REMOTE_SYN = 4096, BIT_LOCAL_SYN = 8192, BIT_WHOLE = 16384, BIT_MICROSECONDS = 32768,
};

/* One list of the fields, walked by writer and reader alike. */
struct cursor {
	uint8_t *write;
	const uint8_t *read;
	size_t at;
};

static uint64_t number(struct cursor *cursor, uint64_t value, unsigned bytes)
{
	uint64_t got = 0;
	for (unsigned i = 0; i < bytes; i++, cursor->at++) {
		if (cursor->write != NULL)
			cursor->write[cursor->at] = (uint8_t)(value >> 8 * i);
		else
			got |= (uint64_t)cursor->read[cursor->at] << 8 * i;
	}
	return cursor->write != NULL ? value : got;
}
#define FIELD(cursor, lvalue, bytes) ((lvalue) = (__typeof__(lvalue))number(cursor, (uint64_t)(lvalue), bytes))

static uint32_t bits_of(const struct connection *c)
{
	return (c->opened ? BIT_OPENED : 0) | (c->opened_by_remote ? BIT_BY_REMOTE : 0) | (c->adopted ? BIT_ADOPTED : 0) |
	       (c->wscale ? BIT_WSCALE : 0) | (c->sack ? BIT_SACK : 0) | (c->timestamps ? BIT_TIMESTAMPS : 0) |
	       (c->send_next_known ? BIT_SEND_NEXT : 0) | (c->local_fin_seen ? BIT_LOCAL_FIN : 0) |
	       (c->remote_fin ? BIT_REMOTE_FIN : 0) | (c->heard_after_fin ? BIT_HEARD : 0) |
	       (c->receive_known ? BIT_RECEIVE : 0) | (c->clock_known ? BIT_CLOCK : 0) |
	       (c->remote_syn.seen ? BIT_REMOTE_SYN : 0) | (c->local_syn.seen ? BIT_LOCAL_SYN : 0) |
	       (connection_whole(c) ? BIT_WHOLE : 0) | (c->microseconds ? BIT_MICROSECONDS : 0);
}

static void set_bits(struct connection *c, uint32_t bits)
{
	c->opened = bits & BIT_OPENED;
	c->opened_by_remote = bits & BIT_BY_REMOTE;
	c->adopted = bits & BIT_ADOPTED;
	c->wscale = bits & BIT_WSCALE;
	c->sack = bits & BIT_SACK;
	c->timestamps = bits & BIT_TIMESTAMPS;
	c->send_next_known = bits & BIT_SEND_NEXT;
	c->local_fin_seen = bits & BIT_LOCAL_FIN;
	c->remote_fin = bits & BIT_REMOTE_FIN;
	c->heard_after_fin = bits & BIT_HEARD;
	c->receive_known = bits & BIT_RECEIVE;
	c->clock_known = bits & BIT_CLOCK;
	c->microseconds = bits & BIT_MICROSECONDS;
	c->remote_syn.seen = bits & BIT_REMOTE_SYN;
	c->local_syn.seen = bits & BIT_LOCAL_SYN;
}

/* Everything but the bits, the stream's bytes and its position, which the caller takes from what is returned. */
static void walk(struct cursor *cursor, struct connection *c, uint32_t *bits, uint64_t *start, uint64_t *next)
{
	size_t end = cursor->at + TABLE_CONNECTION_BYTES;
	FIELD(cursor, c->tuple.local, 4);
	FIELD(cursor, c->tuple.remote, 4);
	FIELD(cursor, c->tuple.local_port, 2);
	FIELD(cursor, c->tuple.remote_port, 2);
	FIELD(cursor, *bits, 4);
	FIELD(cursor, c->stage, 1);
	FIELD(cursor, c->send_wscale, 1);
	FIELD(cursor, c->receive_wscale, 1);
	number(cursor, 0, 1);
	FIELD(cursor, c->mss, 2);
	FIELD(cursor, c->remote_syn.window, 2);
	FIELD(cursor, c->remote_syn.sequence, 4);
	FIELD(cursor, c->local_syn.sequence, 4);
	FIELD(cursor, c->output_origin, 4);
	FIELD(cursor, c->send_unacknowledged, 4);
	FIELD(cursor, c->send_next, 4);
	FIELD(cursor, c->send_window, 4);
	FIELD(cursor, c->send_window_max, 4);
	FIELD(cursor, c->send_window_sequence, 4);
	FIELD(cursor, c->input_origin, 4);
	FIELD(cursor, c->receive_acknowledged, 4);
	FIELD(cursor, c->receive_window, 4);
	FIELD(cursor, c->clock, 4);
	FIELD(cursor, c->remote_tsval, 4);
	FIELD(cursor, *start, 8);
	FIELD(cursor, *next, 8);
	FIELD(cursor, c->touched_ns, 8);
	while (cursor->at < end)
		number(cursor, 0, 1);
}

uint8_t *table_encode(struct tracker *tracker, uint64_t clock_ns, size_t *length)
{
	size_t bytes = TABLE_HEADER_BYTES;
	uint32_t count = 0;
	for (struct connection *c = NULL; (c = tracker_next(tracker, c)) != NULL; count++)
		bytes += TABLE_CONNECTION_BYTES + (size_t)(c->input.next - c->input.start);
	struct cursor cursor = { .write = malloc(bytes) };
	if (cursor.write == NULL)
		return NULL;
	memcpy(cursor.write, TABLE_MAGIC, 8);
	cursor.at = 8;
	number(&cursor, TABLE_VERSION, 4);
	number(&cursor, count, 4);
	number(&cursor, clock_ns, 8);
	number(&cursor, bytes - TABLE_HEADER_BYTES, 8);
	cursor.at = TABLE_HEADER_BYTES;
	for (struct connection *c = NULL; (c = tracker_next(tracker, c)) != NULL;) {
		uint32_t bits = bits_of(c);
		uint64_t start = c->input.start, next = c->input.next;
		walk(&cursor, c, &bits, &start, &next);
		stream_copy(&c->input, &tracker->pool, start, cursor.write + cursor.at, (size_t)(next - start));
		cursor.at += next - start;
	}
	uint32_t body_crc = ft_crc32c(0, cursor.write + TABLE_HEADER_BYTES, bytes - TABLE_HEADER_BYTES);
	cursor.at = BODY_CRC_AT;
	number(&cursor, body_crc, 4);
	number(&cursor, ft_crc32c(0, cursor.write, HEADER_CRC_AT), 4);
	*length = bytes;
	return cursor.write;
}

int table_measure(const uint8_t *bytes, size_t length, uint32_t *connections, uint64_t *stream_bytes)
{
	struct cursor cursor = { .read = bytes, .at = 8 };
	if (length < TABLE_HEADER_BYTES || memcmp(bytes, TABLE_MAGIC, 8) != 0 || number(&cursor, 0, 4) != TABLE_VERSION)
		return -1;
	uint64_t count = number(&cursor, 0, 4);
	(void)number(&cursor, 0, 8);
	uint64_t body = number(&cursor, 0, 8), body_crc = number(&cursor, 0, 4), header_crc = number(&cursor, 0, 4);
	if (header_crc != ft_crc32c(0, bytes, HEADER_CRC_AT) || body != length - TABLE_HEADER_BYTES ||
	    count * TABLE_CONNECTION_BYTES > body || body_crc != ft_crc32c(0, bytes + TABLE_HEADER_BYTES, (size_t)body))
		return -1;
	*connections = (uint32_t)count;
	*stream_bytes = body - count * TABLE_CONNECTION_BYTES;
	return 0;
}

static int decode_one(struct tracker *tracker, struct cursor *cursor, size_t length)
{
	struct connection read = { 0 };
	uint32_t bits = 0;
	uint64_t start = 0, next = 0;
	if (length - cursor->at < TABLE_CONNECTION_BYTES)
		return -1;
	walk(cursor, &read, &bits, &start, &next);
	if (read.stage <= STAGE_UNUSED || read.stage > STAGE_RESET || start > next || next - start > length - cursor->at ||
	    read.send_wscale > 14 || read.receive_wscale > 14 || next >= UINT64_MAX / 2 ||
	    tracker_find(tracker, &read.tuple) != NULL)
		return -1;
	struct connection *connection = tracker_insert(tracker, &read.tuple, read.touched_ns);
	if (connection == NULL)
		return -1;
	struct island *islands = connection->input.island;
	*connection = read;
	set_bits(connection, bits);
	stream_begin(&connection->input, islands, start);
	const uint8_t *at = cursor->read + cursor->at;
	for (uint64_t left = next - start; left > 0;) {
		size_t step = left < STREAM_AHEAD_BYTES_MAX ? (size_t)left : STREAM_AHEAD_BYTES_MAX;
		if (!stream_add(&connection->input, &tracker->pool, next - left, at, step))
			return -1;
		at += step;
		left -= step;
	}
	connection->lost_to = (bits & BIT_WHOLE) != 0 ? 0 : UINT64_MAX;
	cursor->at += next - start;
	return 0;
}

int table_decode(struct tracker *tracker, const uint8_t *bytes, size_t length, uint64_t *clock_ns)
{
	uint32_t connections;
	uint64_t stream_bytes;
	if (table_measure(bytes, length, &connections, &stream_bytes) != 0)
		return -1;
	struct cursor cursor = { .read = bytes, .at = 16 };
	*clock_ns = number(&cursor, 0, 8);
	cursor.at = TABLE_HEADER_BYTES;
	for (uint32_t i = 0; i < connections; i++)
		if (decode_one(tracker, &cursor, length) != 0)
			return -1;
	return cursor.at == length ? 0 : -1;
}
