/*
 * What the frames tell of one TCP connection between the container ("local") and somebody else ("remote"), whoever
 * opened it. All that a rebuilt socket needs and that the application's replay does not give.
 *
 * From the container only frames with SYN are needed (the initial sequence number and what was agreed on: a client's
 * frames do not say our window scale). What else is seen of its output makes a rebuilt socket better informed: which
 * input was acknowledged, and which window was promised.
 *
 * Invariants:
 *  - `opened` false: nothing but `remote_syn`/`local_syn` counts.
 *  - Input positions count from the byte after the remote's SYN, or, of an adopted connection, from what the
 *    application had not yet read then: sequence number = input_origin + position (mod 2^32). The same for output.
 *  - send_unacknowledged only moves forward, and never beyond what the container is known to have sent, if that is known.
 *  - remote_fin: every byte before it is in the stream.
 */
#ifndef FT_LIVE_CONNECTION_H
#define FT_LIVE_CONNECTION_H

#include "live/segment.h"
#include "live/stream.h"

struct tuple {
	uint32_t local, remote; /* addresses, in network order */
	uint16_t local_port, remote_port;
};

struct handshake { /* what a SYN said */
	bool seen, has_wscale, has_sack, has_timestamps;
	uint8_t wscale;
	uint16_t mss, window;
	uint32_t sequence, tsval;
};

enum connection_stage {
	STAGE_UNUSED,
	STAGE_SYN,         /* one SYN was seen */
	STAGE_ANSWERED,    /* both: established for one side at least */
	STAGE_ESTABLISHED, /* and the handshake's last acknowledgement too */
	STAGE_RESET,       /* by the remote side, or by the container */
};

struct connection {
	struct tuple tuple;
	enum connection_stage stage;
	bool opened, opened_by_remote, adopted;
	bool claimed; /* of a process that goes live: live/broker.h */
	struct handshake remote_syn, local_syn;
	/* agreed on */
	bool wscale, sack, timestamps;
	uint8_t send_wscale, receive_wscale;
	uint16_t mss; /* the most that may be sent in a segment, its options included */
	/* output */
	uint32_t output_origin, send_unacknowledged;
	bool send_next_known;
	uint32_t send_next;
	uint32_t send_window, send_window_max, send_window_sequence;
	bool local_fin_seen;
	/* input */
	uint32_t input_origin;
	struct stream input;
	bool remote_fin, remote_fin_waits;
	bool heard_after_fin; /* it acknowledged something new after its FIN: it has seen our acknowledgement of that */
	uint64_t remote_fin_position, lost_to; /* bytes below lost_to came that had no room */
	bool receive_known;
	uint32_t receive_acknowledged, receive_window; /* the last that the container promised */
	/* timestamps: the container's clock was at least (time in ticks + clock) when that was last looked at */
	bool clock_known, microseconds; /* a tick: a millisecond, unless its route asks for microseconds (tcp_usec_ts) */
	uint32_t clock, remote_tsval;
	uint64_t touched_ns;
};

void connection_begin(struct connection *connection, const struct tuple *tuple, struct island *islands);
/* A segment from the remote side, or from the container. `now_ns`: any clock that goes evenly, always the same. */
void connection_input(struct connection *connection, struct pool *pool, const struct segment *segment, uint64_t now_ns);
void connection_output(struct connection *connection, struct pool *pool, const struct segment *segment, uint64_t now_ns);

/* The next sequence number expected from the remote side: its bytes in order, and its FIN. */
uint32_t connection_receive_next(const struct connection *connection);
/* Bytes of output that were acknowledged, counted from the origin; the FIN counts as one. */
static inline uint32_t connection_acknowledged(const struct connection *connection)
{
	return connection->send_unacknowledged - connection->output_origin;
}
/* A value for the container's timestamps that the remote side takes as newer than all it has seen. */
uint32_t connection_timestamp(const struct connection *connection, uint64_t now_ns);
uint32_t connection_ticks(bool microseconds, uint64_t ns);
/* Nothing is missing of what it said and we were to keep. */
bool connection_whole(const struct connection *connection);
bool connection_over(const struct connection *connection);

#endif
