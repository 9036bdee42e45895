/*
 * The lease under which ARP and ICMP may pass: the peer has proved, not long ago, that it hears us. Measured
 * from when the beat that it echoes was SENT: however long the echo was under way, the lease is no longer.
 */
#ifndef FT_GATE_LEASE_H
#define FT_GATE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#define LEASE_BEATS 256u

struct lease {
	uint64_t length_ns;
	uint64_t seq; /* last beat sent */
	uint64_t sent_ns[LEASE_BEATS];
	uint64_t proven_ns; /* when the newest echoed beat was sent; 0: never */
};

void lease_init(struct lease *lease, uint64_t length_ns);
/* Notes that beat `seq` leaves now. */
void lease_sent(struct lease *lease, uint64_t seq, uint64_t now_ns);
/* An authentic beat of the peer echoes `seq`. Returns when that beat was sent, 0 when it is unknown or too old. */
uint64_t lease_echo(struct lease *lease, uint64_t seq);
/* When beat `seq` was sent, without any effect. */
uint64_t lease_sent_at(const struct lease *lease, uint64_t seq);
bool lease_fresh(const struct lease *lease, uint64_t now_ns);

#endif
