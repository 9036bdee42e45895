/*
 * A tracker's connections as bytes: from the gate, which sees the frames, to ftlive, which makes the sockets. All numbers
 * little endian.
 *
 *   magic "FTCONNS1" | version u32 | connections u32 | clock u64 | body bytes u64 | crc32c of the body u32 | crc32c of the header's
 *   first 36 bytes u32 | body: for each connection 120 bytes, then its unread bytes
 *
 * `clock` is the tracker's, in ns, when the table was written.
 */
#ifndef FT_LIVE_TABLE_H
#define FT_LIVE_TABLE_H

#include "live/tracker.h"

#define TABLE_MAGIC "FTCONNS1"
enum { TABLE_VERSION = 1, TABLE_HEADER_BYTES = 40, TABLE_CONNECTION_BYTES = 120 };

/* The whole table in memory of malloc(); NULL without memory. */
uint8_t *table_encode(struct tracker *tracker, uint64_t clock_ns, size_t *length);
/* Into an empty tracker of enough room. Bytes may be anything. -1: it is no whole table of this version; the tracker is to be closed. */
int table_decode(struct tracker *tracker, const uint8_t *bytes, size_t length, uint64_t *clock_ns);
/* How many connections and bytes a table speaks of, for tracker_open(); -1 as above. */
int table_measure(const uint8_t *bytes, size_t length, uint32_t *connections, uint64_t *stream_bytes);

#endif
