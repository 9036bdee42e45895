/* Network interfaces as the kernel tells over netlink: whose port is whose, and whether a bridge has a live uplink. */
#ifndef FT_GATE_LINKS_H
#define FT_GATE_LINKS_H

#include <stdbool.h>

struct links_summary {
	unsigned ports; /* ports of the bridge that are no TAP or TUN: the ways out of this host */
	unsigned live; /* those with a carrier */
};

/* A socket that becomes readable when any interface changes; -1 with errno. */
int links_watch(void);
/* Empties it. */
void links_drain(int fd);
/* Asks the kernel anew. -1 with errno. */
int links_summarise(unsigned bridge_index, struct links_summary *out);
/* The interface's master, 0 for none. */
unsigned links_master(unsigned index);

#endif
