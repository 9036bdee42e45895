/*
 * ftlive's end of the handover: takes the claims of a container's processes, rebuilds their connections, keeps those
 * that nobody has accepted, and gives them out. Runs in the container's network namespace, outside of everything else.
 *
 * Invariants:
 *  - A connection of the tracker is rebuilt at most once: for the first process that claims it.
 *  - Nothing waits without a bound: every message has a time-out, and the whole has an end.
 *  - A process that breaks off loses its sockets as a closed process would; the others go on.
 */
#ifndef FT_LIVE_BROKER_H
#define FT_LIVE_BROKER_H

#include "live/feed.h"
#include "live/rebuild.h"
#include "live/tracker.h"

struct broker_counts {
	uint32_t claims, rebuilt, over, failed, waiting, given, lost;
	uint64_t unread_bytes, output_bytes, rebuild_us; /* in rebuild() */
};

struct broker {
	struct tracker *tracker;
	uint64_t clock_ns; /* the tracker's clock when its table was written: CLOCK_MONOTONIC of this host, or not later */
	struct feed *feed; /* instead of a table: fed when the first process has made its claims. Or NULL */
	int listener, raw;
	unsigned processes;   /* how many are to come; each says so too, and may know of more */
	int timeout_ms;       /* of one message, and for all to have come */
	int accept_timeout_ms; /* for what waits to be accepted; 0: that is left alone */
	struct broker_counts count;
};

/* An abstract name of this network namespace. -1 with errno. */
int broker_open(struct broker *broker, const char *name);
/* Until all is handed over, or the time is over. -1 with errno: not all processes came. */
int broker_run(struct broker *broker);
void broker_close(struct broker *broker);

#endif
