/* The command line of ftgate. */
#ifndef FT_GATE_OPTIONS_H
#define FT_GATE_OPTIONS_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gate/frame.h"
#include "gate/siphash.h"

#define PATH_BYTES_MAX 108 /* what a unix socket takes, with its end */

struct options {
	char pair[64];
	char control[PATH_BYTES_MAX];
	const char *log; /* NULL: stay on stderr */
	pid_t netns_pid; /* 0: no container yet */
	char container_if[IFNAMSIZ];
	char lan_if[IFNAMSIZ];
	char uplink[IFNAMSIZ];
	unsigned char mac[MAC_BYTES];
	unsigned mtu;
	bool heartbeat; /* both addresses were given */
	struct sockaddr_in heartbeat_local;
	struct sockaddr_in heartbeat_peer;
	unsigned char key[SIPHASH_KEY_BYTES];
	uint64_t heartbeat_ns;
	unsigned miss_limit;
	uint64_t lease_ns;
	size_t held_bytes_max;
	size_t queued_bytes_max;
	uint64_t generation;
	bool ship; /* both addresses were given */
	struct sockaddr_in ship_local;
	struct sockaddr_in ship_peer;
	bool ship_plain; /* a wire that nobody else is on: authenticated, not encrypted */
	size_t ship_queue_bytes; /* frames that the standby has not acknowledged */
	uint64_t spin_ns; /* how long to ask for what comes soon before sleeping; 0: never */
};

/* -1: `why` says what is wrong. */
int options_parse(int argc, char **argv, struct options *out, char *why, size_t why_size);

#endif
