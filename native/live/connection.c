#include "live/connection.h"

#include <string.h>

enum { MSS_DEFAULT = 536, BEHIND_BYTES_MAX = 1 << 30 };

void connection_begin(struct connection *connection, const struct tuple *tuple, struct island *islands)
{
	memset(connection, 0, sizeof *connection);
	connection->tuple = *tuple;
	stream_begin(&connection->input, islands, 0);
}

uint32_t connection_receive_next(const struct connection *connection)
{
	return connection->input_origin + (uint32_t)connection->input.next + (connection->remote_fin ? 1 : 0);
}

bool connection_whole(const struct connection *connection)
{
	return connection->lost_to <= connection->input.next;
}

bool connection_over(const struct connection *connection)
{
	return connection->stage == STAGE_RESET;
}

/* ---- timestamps ---- */

uint32_t connection_ticks(bool microseconds, uint64_t ns)
{
	return (uint32_t)(ns / (microseconds ? 1000 : 1000000));
}

/* The best lower bound of the distance between the container's clock and ours. */
static void learn_clock(struct connection *connection, uint32_t value, uint64_t now_ns)
{
	uint32_t distance = value - connection_ticks(connection->microseconds, now_ns);
	if (!connection->clock_known || sequence_after(distance, connection->clock))
		connection->clock = distance;
	connection->clock_known = true;
}

uint32_t connection_timestamp(const struct connection *connection, uint64_t now_ns)
{
	return connection->clock + connection_ticks(connection->microseconds, now_ns);
}

/* ---- handshake ---- */

static void note_syn(struct handshake *syn, const struct segment *segment)
{
	*syn = (struct handshake){ .seen = true, .has_wscale = segment->has_wscale, .has_sack = segment->has_sack,
				   .has_timestamps = segment->has_timestamps, .wscale = segment->wscale,
				   .mss = segment->has_mss ? segment->mss : MSS_DEFAULT, .window = segment->window,
				   .sequence = segment->sequence, .tsval = segment->tsval };
}

/* Both SYNs are known: what they agreed on. */
static void open_connection(struct connection *connection, struct pool *pool)
{
	const struct handshake *remote = &connection->remote_syn, *local = &connection->local_syn;
	stream_clear(&connection->input, pool);
	stream_begin(&connection->input, connection->input.island, 0);
	connection->stage = STAGE_ANSWERED;
	connection->opened = true;
	connection->adopted = connection->clock_known = connection->microseconds = false;
	connection->wscale = remote->has_wscale && local->has_wscale;
	connection->send_wscale = connection->wscale ? remote->wscale : 0;
	connection->receive_wscale = connection->wscale ? local->wscale : 0;
	connection->sack = remote->has_sack && local->has_sack;
	connection->timestamps = remote->has_timestamps && local->has_timestamps;
	connection->remote_tsval = remote->tsval;
	connection->mss = remote->mss < local->mss ? remote->mss : local->mss;
	connection->input_origin = remote->sequence + 1;
	connection->output_origin = connection->send_unacknowledged = connection->send_next = local->sequence + 1;
	connection->send_next_known = false;
	connection->send_window = connection->send_window_max = remote->window; /* in a SYN it is not scaled */
	connection->send_window_sequence = remote->sequence;
	connection->local_fin_seen = connection->remote_fin = connection->remote_fin_waits = false;
	connection->heard_after_fin = false;
	connection->lost_to = 0;
	connection->receive_known = true;
	connection->receive_acknowledged = connection->input_origin;
	connection->receive_window = local->window;
}

/* ---- input ---- */

static void take_syn(struct connection *connection, struct pool *pool, const struct segment *segment, uint64_t now_ns)
{
	bool answer = (segment->flags & SEGMENT_ACK) != 0;
	if (answer) {
		/* To the container's own SYN; a repeated one says nothing new. */
		if (connection->stage != STAGE_SYN || !connection->local_syn.seen ||
		    segment->acknowledged != connection->local_syn.sequence + 1)
			return;
		note_syn(&connection->remote_syn, segment);
		connection->opened_by_remote = false;
		open_connection(connection, pool);
		if (connection->timestamps && segment->tsecr != 0)
			learn_clock(connection, segment->tsecr, now_ns);
		return;
	}
	/* It may be a new connection between the same ports: the container's answer will tell. */
	note_syn(&connection->remote_syn, segment);
	if (connection->stage == STAGE_UNUSED || connection->stage == STAGE_RESET) {
		connection->stage = STAGE_SYN;
		connection->opened = false;
	}
}

static void take_acknowledgement(struct connection *connection, const struct segment *segment)
{
	uint32_t acknowledged = segment->acknowledged;
	if (connection->send_next_known && sequence_after(acknowledged, connection->send_next))
		return; /* of what was never sent; the kernel does not believe it either */
	if (sequence_after(connection->send_unacknowledged, acknowledged))
		return;
	bool newer = sequence_after(acknowledged, connection->send_unacknowledged) ||
		     sequence_after(segment->sequence, connection->send_window_sequence);
	uint32_t window = (uint32_t)segment->window << connection->send_wscale;
	if (newer || (segment->sequence == connection->send_window_sequence && window > connection->send_window)) {
		connection->send_window = window;
		connection->send_window_sequence = segment->sequence;
		if (window > connection->send_window_max)
			connection->send_window_max = window;
	}
	if (acknowledged != connection->send_unacknowledged && connection->remote_fin)
		connection->heard_after_fin = true;
	connection->send_unacknowledged = acknowledged;
	if (!connection->send_next_known && sequence_after(acknowledged, connection->send_next))
		connection->send_next = acknowledged;
}

static void take_fin(struct connection *connection)
{
	if (connection->remote_fin_waits && connection->input.next >= connection->remote_fin_position) {
		connection->remote_fin_waits = false;
		connection->remote_fin = true;
	}
}

static void take_payload(struct connection *connection, struct pool *pool, const struct segment *segment, uint64_t position)
{
	uint64_t end = position + segment->payload_bytes;
	if (connection->remote_fin || (connection->remote_fin_waits && end > connection->remote_fin_position))
		return; /* nothing comes after a FIN */
	if (!stream_add(&connection->input, pool, position, segment->payload, segment->payload_bytes) &&
	    end > connection->lost_to)
		connection->lost_to = end;
	uint32_t islands = connection->input.islands;
	bool last = islands == 0 || end >= connection->input.island[islands - 1].to;
	if ((segment->flags & SEGMENT_FIN) != 0 && !connection->remote_fin_waits && last) {
		connection->remote_fin_waits = true;
		connection->remote_fin_position = end;
	}
	take_fin(connection);
}

void connection_input(struct connection *connection, struct pool *pool, const struct segment *segment, uint64_t now_ns)
{
	connection->touched_ns = now_ns;
	if ((segment->flags & SEGMENT_SYN) != 0) {
		if ((segment->flags & SEGMENT_RST) == 0)
			take_syn(connection, pool, segment, now_ns);
		return;
	}
	if (!connection->opened)
		return;
	/* Signed: before what is expected, or after it. */
	int64_t ahead = (int32_t)(segment->sequence - (connection->input_origin + (uint32_t)connection->input.next));
	int64_t position = (int64_t)connection->input.next + ahead;
	if (ahead > (int64_t)STREAM_AHEAD_BYTES_MAX || ahead < -BEHIND_BYTES_MAX)
		return;
	if ((segment->flags & SEGMENT_RST) != 0) {
		/* Only the exact number counts (RFC 5961); others are answered by the kernel with a challenge. */
		if (segment->sequence == connection_receive_next(connection))
			connection->stage = STAGE_RESET;
		return;
	}
	if ((segment->flags & SEGMENT_ACK) == 0 || connection->stage == STAGE_RESET)
		return;
	if (connection->timestamps && !segment->has_timestamps)
		return; /* as the kernel: not of this connection */
	if (connection->timestamps) {
		if (segment->tsecr != 0)
			learn_clock(connection, segment->tsecr, now_ns);
		if (ahead <= 0)
			connection->remote_tsval = segment->tsval;
	}
	take_acknowledgement(connection, segment);
	if (connection->stage == STAGE_ANSWERED && connection_acknowledged(connection) < BEHIND_BYTES_MAX)
		connection->stage = STAGE_ESTABLISHED;
	if (position < 0 || segment_span(segment) == 0) {
		/* Begins before the first byte we know: the rest may be new all the same. */
		uint64_t skip = position < 0 ? (uint64_t)-position : 0;
		if (skip == 0 || skip >= segment->payload_bytes)
			return;
		struct segment rest = *segment;
		rest.payload += skip;
		rest.payload_bytes -= (uint32_t)skip;
		take_payload(connection, pool, &rest, 0);
		return;
	}
	take_payload(connection, pool, segment, (uint64_t)position);
}

/* ---- output ---- */

void connection_output(struct connection *connection, struct pool *pool, const struct segment *segment, uint64_t now_ns)
{
	connection->touched_ns = now_ns;
	if ((segment->flags & SEGMENT_SYN) != 0) {
		bool answer = (segment->flags & SEGMENT_ACK) != 0;
		bool same = connection->opened && connection->local_syn.seen &&
			    connection->local_syn.sequence == segment->sequence;
		if ((segment->flags & SEGMENT_RST) != 0 || same)
			return;
		if (answer && !(connection->remote_syn.seen && segment->acknowledged == connection->remote_syn.sequence + 1))
			return;
		note_syn(&connection->local_syn, segment);
		if (answer) {
			connection->opened_by_remote = true;
			open_connection(connection, pool);
			if (connection->timestamps)
				learn_clock(connection, segment->tsval, now_ns);
		} else if (connection->stage != STAGE_SYN || connection->remote_syn.seen) {
			/* The kernel opens between the same ports again only when the last one is over. */
			connection->stage = STAGE_SYN;
			connection->opened = false;
			connection->remote_syn.seen = false;
		} else {
			connection->stage = STAGE_SYN;
		}
		return;
	}
	if (!connection->opened)
		return;
	if ((segment->flags & SEGMENT_RST) != 0) {
		connection->stage = STAGE_RESET;
		return;
	}
	uint32_t end = segment->sequence + segment_span(segment);
	if (!connection->send_next_known || sequence_after(end, connection->send_next))
		connection->send_next = end;
	connection->send_next_known = true;
	if ((segment->flags & SEGMENT_FIN) != 0)
		connection->local_fin_seen = true;
	if (connection->timestamps && segment->has_timestamps)
		learn_clock(connection, segment->tsval, now_ns);
	if ((segment->flags & SEGMENT_ACK) != 0 &&
	    (!connection->receive_known || !sequence_after(connection->receive_acknowledged, segment->acknowledged))) {
		connection->receive_known = true;
		connection->receive_acknowledged = segment->acknowledged;
		connection->receive_window = (uint32_t)segment->window << connection->receive_wscale;
	}
}
