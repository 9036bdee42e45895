/*
 * One heartbeat on the wire: a UDP datagram of fixed size, little endian, authenticated with SipHash-2-4.
 * The layout is at the top of heartbeat.c; decoding trusts nothing.
 */
#ifndef FT_GATE_HEARTBEAT_H
#define FT_GATE_HEARTBEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gate/siphash.h"

#define HEARTBEAT_BYTES 112u

enum app_state { APP_NONE, APP_RUNNING, APP_EXITED };
enum mode { MODE_CLOSED, MODE_HOLD, MODE_OPEN, MODE_TAKEOVER, MODE_LOG };

struct heartbeat {
	uint64_t pair_hash;
	uint64_t incarnation; /* random, drawn when the gate starts; never 0 */
	uint64_t seq; /* from 1, goes up by one within an incarnation */
	uint64_t echo_incarnation; /* whose beat was heard last, 0: nobody's */
	uint64_t echo_seq;
	uint64_t sent_ns; /* the sender's clock; means nothing elsewhere */
	uint64_t generation;
	uint64_t epoch;
	uint64_t committed;
	uint64_t cpu_ns; /* CPU time of the container: progress */
	bool agent;
	bool lan;
	enum app_state app;
	enum mode mode;
};

void heartbeat_encode(const struct heartbeat *beat, const unsigned char key[SIPHASH_KEY_BYTES],
		      unsigned char out[HEARTBEAT_BYTES]);
/* -1: not ours, not whole, or not authentic. */
int heartbeat_decode(const unsigned char *bytes, size_t length, const unsigned char key[SIPHASH_KEY_BYTES],
		     uint64_t pair_hash, struct heartbeat *out);

const char *app_name(enum app_state app);
const char *mode_name(enum mode mode);

#endif
