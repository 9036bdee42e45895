#include "gate/lease.h"

#include <string.h>

#include "gate/invariant.h"

void lease_init(struct lease *lease, uint64_t length_ns)
{
	memset(lease, 0, sizeof *lease);
	lease->length_ns = length_ns;
}

void lease_sent(struct lease *lease, uint64_t seq, uint64_t now_ns)
{
	INVARIANT(seq == lease->seq + 1);
	INVARIANT(now_ns > 0);
	lease->seq = seq;
	lease->sent_ns[seq % LEASE_BEATS] = now_ns;
}

uint64_t lease_sent_at(const struct lease *lease, uint64_t seq)
{
	if (seq == 0 || seq > lease->seq || lease->seq - seq >= LEASE_BEATS)
		return 0;
	return lease->sent_ns[seq % LEASE_BEATS];
}

uint64_t lease_echo(struct lease *lease, uint64_t seq)
{
	uint64_t sent_ns = lease_sent_at(lease, seq);
	if (sent_ns > lease->proven_ns)
		lease->proven_ns = sent_ns;
	return sent_ns;
}

bool lease_fresh(const struct lease *lease, uint64_t now_ns)
{
	return lease->proven_ns != 0 && now_ns - lease->proven_ns <= lease->length_ns;
}
