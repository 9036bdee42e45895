/* One process's claims, from its HELLO to the RESULTs. */
#ifndef FT_LIVE_SESSION_H
#define FT_LIVE_SESSION_H

#include "live/broker.h"
#include "live/message.h"

struct claim {
	int fd; /* the process's socket, or one made for it; -1 */
	bool made;
	struct socket_state old;
	struct tuple tuple;
	struct view view;
	struct plan plan;
	enum plan_verdict verdict;
	int error;
	uint8_t *output;
	uint64_t output_have;
	uint32_t flags;
};

struct session {
	int socket;
	struct claim *claim;
	uint32_t claims, room;
};

/* All return 0, or -1 with errno. Takes the claims; `processes` is how many are to come. */
int session_hear(struct broker *broker, struct session *session, unsigned *processes);
/* When all have come: asks for the output, rebuilds. */
int session_rebuild(struct broker *broker, struct session *session);
/* The frames after the checkpoint follow what its sockets are, of whichever process. */
int session_feed(struct broker *broker, const struct session *sessions, unsigned count);
/* Tells what became of them. The END is the caller's, when all processes have come so far. */
int session_results(struct session *session);
void session_free(struct session *session);

uint64_t broker_clock_ns(const struct broker *broker);
/* rebuild(), measured and counted. */
int broker_rebuild(struct broker *broker, int fd, const struct plan *plan, const uint8_t *output, int reuse);

#endif
