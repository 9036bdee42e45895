/*
 * A client's connection made again, so that it goes on as if nothing had happened. Three sources tell what it is:
 *
 *   tracker   what the remote side has sent and acknowledged, and what was agreed on (struct connection)
 *   checkpoint the socket as it was restored: what was unread, what was unacknowledged (struct socket_state)
 *   replay    how far the application has read, what it has written, what it has closed (struct view)
 *
 * plan_make() is pure: it says what the new socket must be, or why it cannot be. rebuild() makes it, in place: any
 * closed TCP socket, or the restored one itself, which keeps its descriptors in all processes, its place in epoll sets
 * and the options that the application has set.
 *
 * Output that the remote side may not have is sent again the ordinary way, after repair mode is over. Restored as
 * "sent" it would wait for a retransmission time-out of a second.
 */
#ifndef FT_LIVE_REBUILD_H
#define FT_LIVE_REBUILD_H

#include "live/connection.h"
#include "live/socket.h"

struct view {
	/* Bytes are counted from the checkpoint for a connection that was in it, else from the connection's beginning. */
	bool since_checkpoint;
	uint64_t read_bytes, written_bytes;
	bool shut_read, shut_write, closed;
	/* Input may have come that the tracker does not know. What was read of it was there, and nobody was told so. */
	bool gap;
};

enum plan_verdict {
	PLAN_REBUILD,
	PLAN_OVER,         /* both sides have nothing to say any more */
	PLAN_UNKNOWN,      /* neither tracker nor checkpoint know it */
	PLAN_NOT_OPEN,     /* the handshake was not complete */
	PLAN_INCOMPLETE,   /* input is missing: there was no room for it */
	PLAN_INCOHERENT,   /* the application has read or the remote side acknowledged what there never was */
	PLAN_NO_MEMORY,
};
const char *plan_verdict_name(enum plan_verdict verdict);

struct plan {
	struct tuple tuple;
	bool wscale, sack, timestamps, remote_fin, reset, acknowledge;
	bool shut_read, shut_write, closed;
	uint8_t send_wscale, receive_wscale;
	uint16_t mss;
	uint32_t receive_next; /* behind the unread bytes, before a FIN */
	uint32_t send_next;    /* the first byte to be sent */
	uint32_t send_window, send_window_max, send_window_sequence, receive_window;
	uint32_t tsval, remote_tsval;
	uint8_t *unread;
	size_t unread_bytes;
	/* Output: first what the checkpoint has (points into the socket's state), then of the replay's from `output_from` on. */
	const uint8_t *old_output;
	size_t old_output_bytes;
	uint64_t output_from, output_bytes;
};

/*
 * What is added to the clock of timestamps, which must not go back: a round trip's error if it was followed from the
 * handshake on; else it may be behind by as much as the checkpoint is old.
 */
enum { PLAN_CLOCK_MARGIN_MS = 200, PLAN_CLOCK_UNSURE_MS = 10000 };

/* `connection` and `old` may be NULL; `now_ns` is the tracker's clock. Then plan_free(). */
enum plan_verdict plan_make(const struct connection *connection, const struct pool *pool, const struct socket_state *old,
			    const struct view *view, uint64_t now_ns, struct plan *out);
void plan_free(struct plan *plan);

/*
 * `output`: plan->output_bytes of the replay's. `raw`: inject_open(). `reuse`: SO_REUSEADDR as the application has set it.
 * 0, or -1 with errno and `step` (a word): the socket is closed then, without a frame; who speaks to it is reset.
 */
int rebuild(int fd, const struct plan *plan, const uint8_t *output, int raw, int reuse, const char **step);

#endif
