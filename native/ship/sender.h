/*
 * The primary's end of the connection: connects, says hello, goes on from what is stored, sends, hears acks.
 *
 * Invariants: an ack is believed only for what was sent, at an entry's end; a connection that fails leaves the queue as
 * it is; nothing here blocks. `up` says whether the stream flows; `why` why it last ended.
 */
#ifndef FT_SHIP_SENDER_H
#define FT_SHIP_SENDER_H

#include <netinet/in.h>

#include "gate/histogram.h"
#include "ship/link.h"
#include "ship/source.h"

#define SENDER_OUT_BYTES 65536u
#define SENDER_IN_ACKS 64u
#define SENDER_MARKS 64u

struct sender {
	const struct link_settings *settings;
	struct source *source;
	struct sockaddr_in local, peer;
	uint64_t pair_hash;
	struct link link;
	bool up;
	const char *why;
	uint64_t connections; /* tells a new descriptor from an old one of the same number */
	uint64_t next_try_ns; /* without a connection */
	uint64_t patience_ns; /* until when the welcome must have come */
	size_t hello_sent;
	struct ship_hello hello;
	size_t in_length;
	uint8_t in[SENDER_IN_ACKS * sizeof(struct ship_ack)];
	size_t out_length, out_sent;
	uint8_t out[SENDER_OUT_BYTES];
	struct {
		uint64_t offset, sent_ns;
	} marks[SENDER_MARKS];
	uint64_t mark_first, mark_last;
	struct histogram delay; /* from sending to the ack */
	uint64_t flushes, acks;
};

void sender_open(struct sender *sender, const struct link_settings *settings, struct source *source,
		 const struct sockaddr_in *local, const struct sockaddr_in *peer, uint64_t pair_hash);
void sender_close(struct sender *sender);
/* Connects when it is time, gives up on what takes too long. */
void sender_tick(struct sender *sender, uint64_t now_ns);
/* The socket is ready for something. Sends what it would not take before, and all when it has just been welcomed: no more. */
void sender_ready(struct sender *sender, uint64_t now_ns);
/* Sends what is in the queue, as far as the socket takes it. */
void sender_flush(struct sender *sender, uint64_t now_ns);
/* When sender_tick() is worth calling. */
uint64_t sender_deadline_ns(const struct sender *sender);
bool sender_wants_out(const struct sender *sender);

#endif
