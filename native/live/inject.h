/*
 * Segments that a socket in this network namespace receives as if its remote side had sent them: through the loopback
 * device, so no gate and no wire is needed. Repair mode can neither set a FIN nor ask for an acknowledgement.
 * Needs CAP_NET_RAW.
 */
#ifndef FT_LIVE_INJECT_H
#define FT_LIVE_INJECT_H

#include "live/connection.h"

struct injection {
	struct tuple tuple;
	uint32_t sequence, acknowledged;
	uint8_t flags;
	bool timestamps;
	uint32_t tsval, tsecr;
	uint16_t window; /* as on the wire */
};

/* A raw socket of the current network namespace; -1 with errno. */
int inject_open(void);
int inject_send(int raw, const struct injection *injection);

#endif
