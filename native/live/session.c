#include "live/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLAIMS_AT_FIRST = 64, OUTPUT_BYTES_MAX = 1 << 28 };

static int fail(int error)
{
	errno = error;
	return -1;
}

static struct claim *add_claim(struct session *session)
{
	if (session->claims == session->room) {
		uint32_t room = session->room == 0 ? CLAIMS_AT_FIRST : session->room * 2;
		struct claim *grown = realloc(session->claim, room * sizeof *grown);
		if (grown == NULL)
			return NULL;
		session->claim = grown;
		session->room = room;
	}
	struct claim *claim = &session->claim[session->claims++];
	memset(claim, 0, sizeof *claim);
	claim->fd = -1;
	return claim;
}

/* A socket to rebuild on, if the one that came is none. */
static int make_socket(struct claim *claim)
{
	if (claim->fd >= 0)
		close(claim->fd);
	claim->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	claim->made = true;
	return claim->fd < 0 ? -1 : 0;
}

static void take_claim(struct claim *claim, const struct handover_message *message)
{
	claim->verdict = PLAN_UNKNOWN;
	int read = claim->fd < 0 ? -1 : socket_read(claim->fd, &claim->old);
	if (read < 0 && (claim->fd < 0 || errno == EPROTOTYPE))
		read = make_socket(claim);
	if (read < 0) {
		claim->error = errno;
		return;
	}
	claim->tuple = claim->old.tuple;
	if ((message->flags & HANDOVER_TUPLE) != 0)
		claim->tuple = (struct tuple){ message->local, message->remote, message->local_port, message->remote_port };
	claim->view = (struct view){
		.since_checkpoint = (message->flags & HANDOVER_SINCE_CHECKPOINT) != 0,
		.shut_read = (message->flags & HANDOVER_SHUT_READ) != 0,
		.shut_write = (message->flags & HANDOVER_SHUT_WRITE) != 0,
		.closed = (message->flags & HANDOVER_CLOSED) != 0,
		.read_bytes = message->read_bytes,
		.written_bytes = message->written_bytes,
	};
}

static void judge(struct broker *broker, struct claim *claim)
{
	if (claim->error != 0)
		return;
	struct connection *connection = tracker_find(broker->tracker, &claim->tuple);
	/* Ports may be used again: of a closed claim and an open one, the tracker's is the one that was opened last. */
	if (connection != NULL && connection->claimed)
		connection = NULL;
	claim->view.gap = broker->feed != NULL && broker->feed->gap;
	claim->verdict = plan_make(connection, &broker->tracker->pool, &claim->old, &claim->view, broker_clock_ns(broker),
				   &claim->plan);
	if (connection != NULL)
		connection->claimed = true;
	if (claim->verdict == PLAN_REBUILD && claim->plan.output_bytes > OUTPUT_BYTES_MAX)
		claim->error = E2BIG;
}

static int hear_claims(struct broker *broker, struct session *session)
{
	for (;;) {
		struct handover_message message;
		int fd;
		if (message_receive(session->socket, &message, NULL, 0, NULL, &fd) != 0)
			return -1;
		if (message.kind == HANDOVER_END && fd < 0)
			return 0;
		struct claim *claim = NULL;
		if (message.kind == HANDOVER_CLAIM && message.claim == session->claims &&
		    session->claims < HANDOVER_CLAIMS_MAX)
			claim = add_claim(session);
		if (claim == NULL) {
			if (fd >= 0)
				close(fd);
			return fail(EPROTO);
		}
		claim->fd = fd;
		claim->flags = message.flags;
		broker->count.claims++;
		take_claim(claim, &message);
	}
}

/* They have been restored, and nothing has touched them. */
static void adopt(struct broker *broker, const struct session *session, uint64_t begins_ns)
{
	for (uint32_t i = 0; i < session->claims; i++) {
		const struct claim *claim = &session->claim[i];
		const struct connection *known = tracker_find(broker->tracker, &claim->tuple);
		if (claim->error == 0 && claim->view.since_checkpoint && claim->old.connected &&
		    (known == NULL || !known->adopted))
			(void)tracker_adopt(broker->tracker, &claim->old, begins_ns);
	}
}

int session_feed(struct broker *broker, const struct session *sessions, unsigned count)
{
	if (broker->feed == NULL || broker->feed->fed)
		return 0;
	uint64_t begins_ns = feed_begins_ns(broker->feed);
	if (feed_handshakes(broker->feed, broker->tracker) != 0)
		return -1;
	for (unsigned i = 0; i < count; i++)
		adopt(broker, &sessions[i], begins_ns);
	return feed_frames(broker->feed, broker->tracker);
}

static bool needs_output(const struct claim *claim)
{
	return claim->verdict == PLAN_REBUILD && claim->error == 0 && claim->plan.output_bytes > 0;
}

static int say_end(int socket)
{
	struct handover_message message;
	message_begin(&message, HANDOVER_END);
	return message_send(socket, &message, NULL, 0, -1);
}

static int say_needs(struct session *session)
{
	for (uint32_t i = 0; i < session->claims; i++) {
		struct claim *claim = &session->claim[i];
		if (!needs_output(claim))
			continue;
		claim->output = malloc((size_t)claim->plan.output_bytes);
		if (claim->output == NULL)
			return fail(ENOMEM);
		struct handover_message message;
		message_begin(&message, HANDOVER_NEED);
		message.claim = i;
		message.from = claim->plan.output_from;
		message.bytes = claim->plan.output_bytes;
		if (message_send(session->socket, &message, NULL, 0, -1) != 0)
			return -1;
	}
	return say_end(session->socket);
}

static int hear_output(struct session *session)
{
	static uint8_t room[HANDOVER_OUTPUT_BYTES];
	for (;;) {
		struct handover_message message;
		size_t bytes;
		int fd;
		if (message_receive(session->socket, &message, room, sizeof room, &bytes, &fd) != 0)
			return -1;
		if (fd >= 0) {
			close(fd);
			return fail(EPROTO);
		}
		if (message.kind == HANDOVER_END)
			return 0;
		if (message.kind != HANDOVER_OUTPUT || message.claim >= session->claims)
			return fail(EPROTO);
		struct claim *claim = &session->claim[message.claim];
		if (!needs_output(claim) || message.bytes != bytes ||
		    message.from != claim->plan.output_from + claim->output_have ||
		    bytes > claim->plan.output_bytes - claim->output_have)
			return fail(EPROTO);
		memcpy(claim->output + claim->output_have, room, bytes);
		claim->output_have += bytes;
	}
}

/* For a person, who has nothing else to go by: the sockets are gone with the host. */
static void say_lost(const struct claim *claim)
{
	fprintf(stderr,
		"ftlive: the connection of port %u with port %u is lost: %s (%s); %s, %llu bytes read, %llu written; "
		"its socket received up to %u (%u unread) and had sent from %u (%u unacknowledged)\n",
		claim->tuple.local_port, claim->tuple.remote_port, plan_verdict_name(claim->verdict), strerror(claim->error),
		claim->view.since_checkpoint ? "since the checkpoint" : "since it was opened",
		(unsigned long long)claim->view.read_bytes, (unsigned long long)claim->view.written_bytes,
		claim->old.receive_next, claim->old.unread_bytes, claim->old.send_unacknowledged,
		claim->old.unacknowledged_bytes);
}

static void rebuild_claim(struct broker *broker, struct claim *claim)
{
	if (claim->verdict == PLAN_REBUILD && claim->error == 0 && claim->output_have != claim->plan.output_bytes)
		claim->error = ENODATA;
	if (claim->verdict == PLAN_OVER)
		broker->count.over++;
	if (claim->verdict == PLAN_REBUILD && claim->error == 0 &&
	    broker_rebuild(broker, claim->fd, &claim->plan, claim->output, claim->old.reuse) == 0) {
		broker->count.rebuilt++;
		static const struct linger now = { .l_onoff = 1 };
		if ((claim->flags & HANDOVER_ABORTED) != 0 &&
		    setsockopt(claim->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) != 0)
			claim->error = errno;
		return;
	}
	if (claim->verdict == PLAN_REBUILD && claim->error == 0)
		claim->error = errno;
	if (claim->verdict != PLAN_OVER) {
		broker->count.failed++;
		say_lost(claim);
	}
	/* It must not speak with numbers of the past. */
	if (claim->fd >= 0 && socket_disconnect(claim->fd) != 0 && claim->error == 0)
		claim->error = errno;
}

int session_hear(struct broker *broker, struct session *session, unsigned *processes)
{
	struct handover_message message;
	int fd;
	if (message_limit(session->socket, broker->timeout_ms) != 0 ||
	    message_receive(session->socket, &message, NULL, 0, NULL, &fd) != 0)
		return -1;
	if (fd >= 0)
		close(fd);
	if (message.kind != HANDOVER_HELLO || fd >= 0)
		return fail(EPROTO);
	if (message.claim > *processes)
		*processes = message.claim;
	return hear_claims(broker, session);
}

int session_rebuild(struct broker *broker, struct session *session)
{
	for (uint32_t i = 0; i < session->claims; i++)
		judge(broker, &session->claim[i]);
	if (say_needs(session) != 0 || hear_output(session) != 0)
		return -1;
	for (uint32_t i = 0; i < session->claims; i++)
		rebuild_claim(broker, &session->claim[i]);
	return 0;
}

int session_results(struct session *session)
{
	for (uint32_t i = 0; i < session->claims; i++) {
		struct claim *claim = &session->claim[i];
		struct handover_message message;
		message_begin(&message, HANDOVER_RESULT);
		message.claim = i;
		message.verdict = claim->error != 0 ? HANDOVER_FAILED : (uint32_t)claim->verdict;
		message.error = (uint32_t)claim->error;
		bool pass = claim->made && !claim->view.closed && claim->verdict == PLAN_REBUILD && claim->error == 0;
		if (message_send(session->socket, &message, NULL, 0, pass ? claim->fd : -1) != 0)
			return -1;
		/* The process's now. One that the application has closed ends with this, as it would have. */
		if (claim->fd >= 0)
			close(claim->fd);
		claim->fd = -1;
	}
	return 0;
}

void session_free(struct session *session)
{
	for (uint32_t i = 0; i < session->claims; i++) {
		struct claim *claim = &session->claim[i];
		if (claim->fd >= 0)
			close(claim->fd);
		socket_free(&claim->old);
		plan_free(&claim->plan);
		free(claim->output);
	}
	free(session->claim);
	if (session->socket >= 0)
		close(session->socket);
	*session = (struct session){ .socket = -1 };
}
