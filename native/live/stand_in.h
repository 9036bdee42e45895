/*
 * Connections that wait to be accepted: rebuilt, kept here, and announced to the listening socket by a connection of
 * our own, the stand-in (live/handover.h).
 *
 * Such a one is a connection of the tracker that a remote side opened, that no process claims, and on which the container
 * has never said anything: not a byte, no FIN, no reset.
 */
#ifndef FT_LIVE_STAND_IN_H
#define FT_LIVE_STAND_IN_H

#include "live/broker.h"

struct stand_in {
	struct tuple tuple;
	int socket;    /* the client's connection; -1: given */
	int knock;     /* ours to the listener */
	uint16_t port; /* of ours */
};

struct stand_ins {
	struct stand_in *one;
	uint32_t count, left;
};

/* One that nobody listens for any more, or that cannot be rebuilt, is reset and counted as failed. -1: no memory. */
int stand_ins_make(struct broker *broker, struct stand_ins *out);
/* The list and its END. */
int stand_ins_tell(const struct stand_ins *all, int session);
/* Answers one request of a process. -1: it is gone or does not speak the protocol. */
int stand_ins_give(struct stand_ins *all, int session);
void stand_ins_free(struct stand_ins *all);

#endif
