/* What is known of the other host's gate: who it is, when it was heard, what it said. No clock, no socket of its own. */
#ifndef FT_GATE_PEER_H
#define FT_GATE_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "gate/heartbeat.h"
#include "gate/lease.h"

enum peer_state { PEER_NONE, PEER_ALIVE, PEER_SILENT };
enum peer_verdict { PEER_REFUSED, PEER_GREETED, PEER_ACCEPTED };

struct peer {
	uint64_t own_incarnation;
	uint64_t silence_ns; /* without a beat for this long: silent */
	enum peer_state state;
	uint64_t incarnation; /* the one that is echoed; 0: nobody yet */
	uint64_t seq;
	bool proven; /* it has echoed our incarnation: it is not a recording of an earlier life */
	uint64_t heard_ns;
	uint64_t grace_until_ns;
	uint64_t rtt_ns; /* of the last echo, includes up to one beat of waiting at the peer */
	struct heartbeat last; /* the last accepted beat */
	struct lease lease;
};

void peer_init(struct peer *peer, uint64_t own_incarnation, uint64_t silence_ns, uint64_t lease_ns);
/* Judges an authentic beat. PEER_ACCEPTED: it is news from the peer. PEER_GREETED: it will be echoed, no more. */
enum peer_verdict peer_receive(struct peer *peer, const struct heartbeat *beat, uint64_t now_ns);
/* Fills the fields of the next beat that are the protocol's own, and notes when it was sent. */
void peer_compose(struct peer *peer, struct heartbeat *beat, uint64_t now_ns);
/* Call after everything received was judged. True when the peer has just become silent. */
bool peer_fell_silent(struct peer *peer, uint64_t now_ns);
/* We ourselves stood still: what the peer sent meanwhile may not have been read yet. */
void peer_grant_grace(struct peer *peer, uint64_t until_ns);
/* When peer_fell_silent() is worth asking; UINT64_MAX: not before another beat. */
uint64_t peer_deadline_ns(const struct peer *peer);
/* The peer serves with a higher generation than `generation`: whoever asks must fall silent. */
bool peer_outranks(const struct peer *peer, uint64_t generation);
const char *peer_state_name(enum peer_state state);

#endif
