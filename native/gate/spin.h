/*
 * Asking instead of sleeping, for some microseconds, where the next thing usually comes within them. To be woken on a
 * processor that has gone idle costs more than what the gate then does, and in mode log a round trip has six such hops.
 * It gives the processor to whoever can run each time it asks; and it stops where it does not pay.
 *
 * Invariants:
 *   1. Of the chances of one kind, spinning is tried while at least four in five have paid lately, else one in 32.
 *   2. One attempt lasts `patience_ns`, and none begins for SPIN_AWAY_NS after somebody else has had the processor for long:
 *      who sleeps is let in before others when he wakes, who has given way is not.
 */
#ifndef FT_GATE_SPIN_H
#define FT_GATE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_CREDIT_MAX 16u
#define SPIN_LOSS 4u
#define SPIN_PROBE_EVERY 32u
#define SPIN_TAKEN_NS 500000ull
#define SPIN_AWAY_NS 100000000ull

enum spin_hope {
	SPIN_NOTHING,
	SPIN_ACK, /* output waits for the standby */
	SPIN_ANSWER, /* input was delivered */
	SPIN_REQUEST, /* output has left */
	SPIN_HOPES,
};

struct spin {
	uint64_t patience_ns; /* 0: never */
	enum spin_hope hope;
	uint64_t until_ns; /* of the attempt that goes on; 0: none */
	uint64_t away_until_ns;
	unsigned credit[SPIN_HOPES];
	unsigned passed[SPIN_HOPES]; /* chances since the last probe */
	uint64_t tried, paid;
};

void spin_open(struct spin *spin, uint64_t patience_ns);
/* Whether to ask now, and until when, for what is hoped for. */
bool spin_begin(struct spin *spin, enum spin_hope hope, uint64_t now_ns);
/* After one asking that found nothing and began at `asked_ns`: whether to go on. */
bool spin_goes_on(struct spin *spin, uint64_t asked_ns, uint64_t now_ns);
/* Something came. */
void spin_paid(struct spin *spin);

#endif
