/*
 * All TCP connections of one container, from the frames of its gate. Fed in the order in which the container met the
 * frames: what the remote side sent as input; of the container's own frames at least those with SYN.
 *
 * Runs best from the moment protection begins: then it has seen every handshake. Connections that are older are
 * adopted from the state of their sockets in a checkpoint; then come the frames after that checkpoint's mark.
 *
 * Invariants:
 *  - Fixed size: connections_max and the pool. What finds no place is counted (refused), and the connection has no
 *    entry: never a wrong one.
 *  - A connection is in the table of its tuple's hash once, or not at all.
 *  - The hash is keyed, so that a remote side cannot choose its bucket.
 */
#ifndef FT_LIVE_TRACKER_H
#define FT_LIVE_TRACKER_H

#include "live/connection.h"

enum tracker_direction { TRACKER_INPUT, TRACKER_OUTPUT };

struct tracker_counts {
	uint64_t segments, others, fragments, broken, strangers, refused, evicted;
};

struct tracker {
	struct connection *connection; /* connections_max; slots are never moved */
	struct island *islands;
	uint32_t *bucket, *following;
	uint32_t connections_max, buckets, used, free_first, untouched;
	unsigned char key[16];
	struct pool pool;
	struct tracker_counts count;
};

/* A socket's state at a checkpoint's mark: socket_read() makes it. */
struct socket_state;

int tracker_open(struct tracker *tracker, uint32_t connections_max, uint32_t chunks_max);
void tracker_close(struct tracker *tracker);
/* An Ethernet frame without the virtio header. `checksum`: see segment_read(). */
void tracker_frame(struct tracker *tracker, enum tracker_direction direction, const uint8_t *ethernet, size_t length,
		   bool checksum, uint64_t now_ns);
struct connection *tracker_find(struct tracker *tracker, const struct tuple *tuple);
/* A connection of which nothing is known yet; there must be none of this tuple. NULL: no place. */
struct connection *tracker_insert(struct tracker *tracker, const struct tuple *tuple, uint64_t now_ns);
/* An established connection in the middle of its life. NULL: no place. */
struct connection *tracker_adopt(struct tracker *tracker, const struct socket_state *state, uint64_t now_ns);
void tracker_forget(struct tracker *tracker, struct connection *connection);
/* A checkpoint has committed: what the application had read by then is not needed any more. */
void tracker_trim(struct tracker *tracker, struct connection *connection, uint32_t read_to_sequence);
/* The next one after `connection` (NULL: the first), in no order. */
struct connection *tracker_next(struct tracker *tracker, const struct connection *connection);

#endif
