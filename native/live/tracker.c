#include "live/tracker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "gate/siphash.h"
#include "live/socket.h"

#define NONE UINT32_MAX

int tracker_open(struct tracker *tracker, uint32_t connections_max, uint32_t chunks_max)
{
	memset(tracker, 0, sizeof *tracker);
	tracker->connections_max = connections_max;
	for (tracker->buckets = 64; tracker->buckets < connections_max; tracker->buckets *= 2)
		;
	tracker->connection = calloc(connections_max, sizeof *tracker->connection);
	tracker->islands = calloc((size_t)connections_max * STREAM_ISLANDS_MAX, sizeof *tracker->islands);
	tracker->bucket = malloc(tracker->buckets * sizeof *tracker->bucket);
	tracker->following = malloc(connections_max * sizeof *tracker->following);
	tracker->free_first = NONE;
	if (tracker->connection == NULL || tracker->islands == NULL || tracker->bucket == NULL ||
	    tracker->following == NULL || getrandom(tracker->key, sizeof tracker->key, 0) != sizeof tracker->key ||
	    pool_open(&tracker->pool, chunks_max) != 0) {
		tracker_close(tracker);
		return -1;
	}
	for (uint32_t i = 0; i < tracker->buckets; i++)
		tracker->bucket[i] = NONE;
	return 0;
}

void tracker_close(struct tracker *tracker)
{
	pool_close(&tracker->pool);
	free(tracker->connection);
	free(tracker->islands);
	free(tracker->bucket);
	free(tracker->following);
	memset(tracker, 0, sizeof *tracker);
}

static uint32_t *bucket_of(struct tracker *tracker, const struct tuple *tuple)
{
	return &tracker->bucket[siphash(tracker->key, tuple, sizeof *tuple) & (tracker->buckets - 1)];
}

static bool same(const struct tuple *a, const struct tuple *b)
{
	return a->local == b->local && a->remote == b->remote && a->local_port == b->local_port &&
	       a->remote_port == b->remote_port;
}

struct connection *tracker_find(struct tracker *tracker, const struct tuple *tuple)
{
	for (uint32_t i = *bucket_of(tracker, tuple); i != NONE; i = tracker->following[i])
		if (same(&tracker->connection[i].tuple, tuple))
			return &tracker->connection[i];
	return NULL;
}

void tracker_forget(struct tracker *tracker, struct connection *connection)
{
	uint32_t index = (uint32_t)(connection - tracker->connection);
	uint32_t *at = bucket_of(tracker, &connection->tuple);
	while (*at != index)
		at = &tracker->following[*at];
	*at = tracker->following[index];
	stream_clear(&connection->input, &tracker->pool);
	connection->stage = STAGE_UNUSED;
	memset(&connection->tuple, 0, sizeof connection->tuple);
	tracker->following[index] = tracker->free_first;
	tracker->free_first = index;
	tracker->used--;
}

/* Of a full table: something that is over, or a handshake that came to nothing. A few are looked at. */
static bool evict(struct tracker *tracker, uint64_t now_ns)
{
	enum { LOOK_AT = 64 };
	static const uint64_t stale_ns = 60000000000ull;
	for (uint32_t i = 0; i < LOOK_AT && i < tracker->connections_max; i++) {
		struct connection *connection =
			&tracker->connection[(tracker->count.evicted + tracker->count.refused * LOOK_AT + i) % tracker->connections_max];
		bool over = connection_over(connection) ||
			    (connection->stage == STAGE_SYN && now_ns - connection->touched_ns > stale_ns) ||
			    (connection->remote_fin && connection->local_fin_seen &&
			     now_ns - connection->touched_ns > stale_ns);
		if (over && connection->stage != STAGE_UNUSED) {
			tracker_forget(tracker, connection);
			tracker->count.evicted++;
			return true;
		}
	}
	return false;
}

struct connection *tracker_insert(struct tracker *tracker, const struct tuple *tuple, uint64_t now_ns)
{
	if (tracker->used == tracker->connections_max && !evict(tracker, now_ns)) {
		tracker->count.refused++;
		return NULL;
	}
	uint32_t index = tracker->free_first;
	if (index != NONE)
		tracker->free_first = tracker->following[index];
	else
		index = tracker->untouched++;
	uint32_t *bucket = bucket_of(tracker, tuple);
	tracker->following[index] = *bucket;
	*bucket = index;
	tracker->used++;
	connection_begin(&tracker->connection[index], tuple, tracker->islands + (size_t)index * STREAM_ISLANDS_MAX);
	tracker->connection[index].touched_ns = now_ns;
	return &tracker->connection[index];
}

void tracker_frame(struct tracker *tracker, enum tracker_direction direction, const uint8_t *ethernet, size_t length,
		   bool checksum, uint64_t now_ns)
{
	struct segment segment;
	switch (segment_read(ethernet, length, checksum, &segment)) {
	case SEGMENT_IS_TCP: tracker->count.segments++; break;
	case SEGMENT_IS_OTHER: tracker->count.others++; return;
	case SEGMENT_IS_FRAGMENT: tracker->count.fragments++; return;
	case SEGMENT_IS_BROKEN: tracker->count.broken++; return;
	}
	struct tuple tuple = { segment.target, segment.source, segment.target_port, segment.source_port };
	if (direction == TRACKER_OUTPUT)
		tuple = (struct tuple){ segment.source, segment.target, segment.source_port, segment.target_port };
	struct connection *connection = tracker_find(tracker, &tuple);
	bool begins = (segment.flags & (SEGMENT_SYN | SEGMENT_ACK | SEGMENT_RST)) == SEGMENT_SYN;
	if (connection == NULL && begins)
		connection = tracker_insert(tracker, &tuple, now_ns);
	if (connection == NULL)
		tracker->count.strangers++;
	else if (direction == TRACKER_INPUT)
		connection_input(connection, &tracker->pool, &segment, now_ns);
	else
		connection_output(connection, &tracker->pool, &segment, now_ns);
}

struct connection *tracker_adopt(struct tracker *tracker, const struct socket_state *state, uint64_t now_ns)
{
	struct connection *connection = tracker_find(tracker, &state->tuple);
	if (connection == NULL)
		connection = tracker_insert(tracker, &state->tuple, now_ns);
	if (connection == NULL)
		return NULL;
	stream_clear(&connection->input, &tracker->pool);
	connection_begin(connection, &state->tuple, connection->input.island);
	connection->touched_ns = now_ns;
	connection->stage = STAGE_ESTABLISHED;
	connection->opened = connection->adopted = true;
	connection->wscale = state->wscale;
	connection->sack = state->sack;
	connection->timestamps = state->timestamps;
	connection->send_wscale = state->send_wscale;
	connection->receive_wscale = state->receive_wscale;
	connection->mss = state->mss;
	connection->input_origin = state->receive_next - (uint32_t)state->unread_bytes;
	connection->output_origin = connection->send_unacknowledged = state->send_unacknowledged;
	connection->send_next = state->send_unacknowledged + state->unacknowledged_bytes;
	connection->send_window = state->window.snd_wnd;
	connection->send_window_max = state->window.max_window;
	connection->send_window_sequence = state->window.snd_wl1;
	connection->receive_known = true;
	connection->receive_acknowledged = state->window.rcv_wup;
	connection->receive_window = state->window.rcv_wnd;
	connection->clock_known = state->timestamps;
	connection->microseconds = state->microseconds;
	connection->clock = state->timestamp - connection_ticks(state->microseconds, now_ns);
	connection->remote_fin = state->remote_fin;
	connection->local_fin_seen = state->local_fin;
	if (!stream_add(&connection->input, &tracker->pool, 0, state->unread, state->unread_bytes)) {
		tracker_forget(tracker, connection);
		tracker->count.refused++;
		return NULL;
	}
	return connection;
}

void tracker_trim(struct tracker *tracker, struct connection *connection, uint32_t read_to_sequence)
{
	int64_t beyond = (int32_t)(read_to_sequence - (connection->input_origin + (uint32_t)connection->input.start));
	if (beyond > 0)
		stream_trim(&connection->input, &tracker->pool, connection->input.start + (uint64_t)beyond);
}

struct connection *tracker_next(struct tracker *tracker, const struct connection *connection)
{
	uint32_t index = connection == NULL ? 0 : (uint32_t)(connection - tracker->connection) + 1;
	for (; index < tracker->untouched; index++)
		if (tracker->connection[index].stage != STAGE_UNUSED)
			return &tracker->connection[index];
	return NULL;
}
