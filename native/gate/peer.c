/*
 * Invariants:
 *   1. Within an incarnation the sequence only goes up: a replayed beat is never news.
 *   2. A new incarnation is believed only once it echoes a beat that we sent within the last second, so that a
 *      recording of an earlier life cannot pose as the peer; and only when the old one has fallen silent.
 *   3. Our own beats, reflected, are refused.
 *   4. The lease moves only on an echo of our own incarnation.
 */
#include "gate/peer.h"

#include <string.h>

#include "gate/invariant.h"

#define ECHO_AGE_NS_MAX 1000000000ull

void peer_init(struct peer *peer, uint64_t own_incarnation, uint64_t silence_ns, uint64_t lease_ns)
{
	INVARIANT(own_incarnation != 0 && silence_ns != 0);
	memset(peer, 0, sizeof *peer);
	peer->own_incarnation = own_incarnation;
	peer->silence_ns = silence_ns;
	lease_init(&peer->lease, lease_ns);
}

static bool echoes_us_lately(const struct peer *peer, const struct heartbeat *beat, uint64_t now_ns)
{
	if (beat->echo_incarnation != peer->own_incarnation)
		return false;
	uint64_t sent_ns = lease_sent_at(&peer->lease, beat->echo_seq);
	return sent_ns != 0 && now_ns - sent_ns <= ECHO_AGE_NS_MAX;
}

/* Takes up a new life of the peer, or only its greeting. */
static enum peer_verdict meet(struct peer *peer, const struct heartbeat *beat, uint64_t now_ns)
{
	if (peer->state == PEER_ALIVE)
		return PEER_REFUSED;
	peer->incarnation = beat->incarnation;
	peer->seq = beat->seq;
	peer->proven = echoes_us_lately(peer, beat, now_ns);
	return peer->proven ? PEER_ACCEPTED : PEER_GREETED;
}

static enum peer_verdict judge(struct peer *peer, const struct heartbeat *beat, uint64_t now_ns)
{
	if (beat->incarnation == peer->own_incarnation)
		return PEER_REFUSED;
	if (beat->incarnation != peer->incarnation)
		return meet(peer, beat, now_ns);
	if (beat->seq <= peer->seq)
		return PEER_REFUSED;
	peer->seq = beat->seq;
	if (!peer->proven)
		peer->proven = echoes_us_lately(peer, beat, now_ns);
	return peer->proven ? PEER_ACCEPTED : PEER_GREETED;
}

enum peer_verdict peer_receive(struct peer *peer, const struct heartbeat *beat, uint64_t now_ns)
{
	enum peer_verdict verdict = judge(peer, beat, now_ns);
	if (verdict != PEER_ACCEPTED)
		return verdict;
	peer->state = PEER_ALIVE;
	peer->heard_ns = now_ns;
	peer->last = *beat;
	if (beat->echo_incarnation == peer->own_incarnation) {
		uint64_t sent_ns = lease_echo(&peer->lease, beat->echo_seq);
		if (sent_ns != 0)
			peer->rtt_ns = now_ns - sent_ns;
	}
	return PEER_ACCEPTED;
}

void peer_compose(struct peer *peer, struct heartbeat *beat, uint64_t now_ns)
{
	beat->incarnation = peer->own_incarnation;
	beat->seq = peer->lease.seq + 1;
	beat->echo_incarnation = peer->incarnation;
	beat->echo_seq = peer->seq;
	beat->sent_ns = now_ns;
	lease_sent(&peer->lease, beat->seq, now_ns);
}

void peer_grant_grace(struct peer *peer, uint64_t until_ns)
{
	if (until_ns > peer->grace_until_ns)
		peer->grace_until_ns = until_ns;
}

uint64_t peer_deadline_ns(const struct peer *peer)
{
	if (peer->state != PEER_ALIVE)
		return UINT64_MAX;
	uint64_t deadline_ns = peer->heard_ns + peer->silence_ns;
	return deadline_ns > peer->grace_until_ns ? deadline_ns : peer->grace_until_ns;
}

bool peer_fell_silent(struct peer *peer, uint64_t now_ns)
{
	if (peer->state != PEER_ALIVE || now_ns < peer_deadline_ns(peer))
		return false;
	peer->state = PEER_SILENT;
	return true;
}

bool peer_outranks(const struct peer *peer, uint64_t generation)
{
	return peer->state != PEER_NONE && peer->last.generation > generation && peer->last.mode != MODE_CLOSED;
}

const char *peer_state_name(enum peer_state state)
{
	switch (state) {
	case PEER_ALIVE:
		return "alive";
	case PEER_SILENT:
		return "silent";
	case PEER_NONE:
		break;
	}
	return "none";
}
