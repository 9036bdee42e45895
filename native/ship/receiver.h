/*
 * The standby's end: listens, judges hellos, stores, acknowledges what is stored.
 *
 * Invariants: an ack follows the store of everything it covers; at most one stream is taken in at a time, and a newcomer
 * takes its place only once it has proved who it is and was accepted; a torn tail dies with its connection; without
 * room nothing is read on and nothing acknowledged.
 */
#ifndef FT_SHIP_RECEIVER_H
#define FT_SHIP_RECEIVER_H

#include <netinet/in.h>

#include "ship/link.h"
#include "ship/mirror.h"

#define RECEIVER_SLOTS 2u
#define RECEIVER_IN_BYTES (2u << 20)
_Static_assert(RECEIVER_IN_BYTES >= SHIP_ENTRY_BYTES_MAX + 65536u, "the largest entry fits, and more");

struct receiver_slot {
	struct link link;
	uint64_t patience_ns;
	uint64_t connections;
	size_t hello_length;
	uint8_t hello[sizeof(struct ship_hello)];
};

struct receiver {
	const struct link_settings *settings;
	struct mirror *mirror;
	uint64_t pair_hash;
	uint64_t generation_min; /* older streams are refused */
	int listen_fd; /* -1: not open */
	struct receiver_slot slots[RECEIVER_SLOTS];
	int current; /* the slot whose stream is taken in; -1: none */
	const char *why; /* the last stream ended */
	bool full; /* the tmpfs has no room */
	uint64_t retry_ns; /* when full */
	bool hungry; /* more may be there than was looked at */
	uint64_t acked; /* told to the primary */
	bool ack_waits; /* `ack` is not wholly taken by the link */
	struct ship_ack ack;
	uint64_t acks;
	size_t in_length;
	uint8_t *in;
};

/* 0, or -1 with errno. */
int receiver_open(struct receiver *receiver, const struct link_settings *settings, struct mirror *mirror,
		  const struct sockaddr_in *local, uint64_t pair_hash, uint64_t generation_min);
void receiver_close(struct receiver *receiver);
/* Ends the stream if it is older than `generation`, and refuses such from now on. */
void receiver_outdate(struct receiver *receiver, uint64_t generation);
void receiver_accept(struct receiver *receiver, uint64_t now_ns);
void receiver_ready(struct receiver *receiver, unsigned slot, uint64_t now_ns);
void receiver_tick(struct receiver *receiver, uint64_t now_ns);
uint64_t receiver_deadline_ns(const struct receiver *receiver);
bool receiver_wants_in(const struct receiver *receiver, unsigned slot);
bool receiver_wants_out(const struct receiver *receiver, unsigned slot);

#endif
