/* What a rebuilt socket must be: see live/rebuild.h. */
#include <stdlib.h>
#include <string.h>

#include "live/rebuild.h"

const char *plan_verdict_name(enum plan_verdict verdict)
{
	static const char *const names[] = { "rebuilt", "over", "unknown", "not-open", "incomplete", "incoherent",
					     "no-memory" };
	return names[verdict];
}

void plan_free(struct plan *plan)
{
	free(plan->unread);
	plan->unread = NULL;
}

static void take_terms(const struct connection *connection, const struct socket_state *old, struct plan *out)
{
	/* A restored socket had them from the kernel that negotiated them. */
	out->wscale = old ? old->wscale : connection->wscale;
	out->sack = old ? old->sack : connection->sack;
	out->timestamps = old ? old->timestamps : connection->timestamps;
	out->send_wscale = old ? old->send_wscale : connection->send_wscale;
	out->receive_wscale = old ? old->receive_wscale : connection->receive_wscale;
	out->mss = old ? old->mss : connection->mss;
}

/* Sequence number of the first byte that the application has not read, and of the one after the last that came. */
static enum plan_verdict take_input(const struct connection *connection, const struct pool *pool,
				    const struct socket_state *old, const struct view *view, struct plan *out)
{
	uint32_t origin = view->since_checkpoint ? old->receive_next - old->unread_bytes : connection->input_origin;
	uint32_t first = origin + (uint32_t)view->read_bytes, end = old ? old->receive_next : first;
	if (connection != NULL) {
		uint32_t tracked = connection->input_origin + (uint32_t)connection->input.next;
		if (old == NULL || sequence_after(tracked, end))
			end = tracked;
	}
	if (sequence_after(first, end) && !view->gap)
		return PLAN_INCOHERENT;
	if (sequence_after(first, end))
		end = first;
	out->receive_next = end;
	out->unread_bytes = end - first;
	if (out->unread_bytes == 0)
		return PLAN_REBUILD;
	out->unread = malloc(out->unread_bytes);
	if (out->unread == NULL)
		return PLAN_NO_MEMORY;
	size_t have = 0;
	if (old != NULL && sequence_after(old->receive_next, first)) {
		have = old->receive_next - first;
		if (have > old->unread_bytes || have > out->unread_bytes)
			return PLAN_INCOHERENT;
		memcpy(out->unread, old->unread + (old->unread_bytes - have), have);
	}
	if (have == out->unread_bytes)
		return PLAN_REBUILD;
	uint64_t position = connection->input.next - (out->unread_bytes - have);
	if (out->unread_bytes - have > connection->input.next || position < connection->input.start)
		return PLAN_INCOMPLETE;
	stream_copy(&connection->input, pool, position, out->unread + have, out->unread_bytes - have);
	return PLAN_REBUILD;
}

static enum plan_verdict take_output(const struct connection *connection, const struct socket_state *old,
				     const struct view *view, bool *fin_acknowledged, struct plan *out)
{
	uint32_t old_bytes = view->since_checkpoint ? old->unacknowledged_bytes : 0;
	uint32_t origin = view->since_checkpoint ? old->send_unacknowledged : connection->output_origin;
	uint32_t end = origin + old_bytes + (uint32_t)view->written_bytes;
	uint32_t acknowledged = connection ? connection->send_unacknowledged : old->send_unacknowledged;
	if (old != NULL && sequence_after(old->send_unacknowledged, acknowledged))
		acknowledged = old->send_unacknowledged;
	*fin_acknowledged = out->shut_write && acknowledged == end + 1;
	if (*fin_acknowledged)
		acknowledged = end;
	uint32_t pending = end - acknowledged;
	if (sequence_after(acknowledged, end) || pending > old_bytes + view->written_bytes)
		return PLAN_INCOHERENT;
	out->send_next = acknowledged;
	if (pending > view->written_bytes) {
		out->old_output_bytes = (size_t)(pending - view->written_bytes);
		out->old_output = old->unacknowledged + (old_bytes - out->old_output_bytes);
	}
	out->output_bytes = pending - out->old_output_bytes;
	out->output_from = view->written_bytes - out->output_bytes;
	return PLAN_REBUILD;
}

static void take_windows(const struct connection *connection, const struct socket_state *old, struct plan *out)
{
	uint32_t edge = out->receive_next;
	if (old != NULL && sequence_after(old->window.rcv_wup + old->window.rcv_wnd, edge))
		edge = old->window.rcv_wup + old->window.rcv_wnd;
	if (connection != NULL && connection->receive_known &&
	    sequence_after(connection->receive_acknowledged + connection->receive_window, edge))
		edge = connection->receive_acknowledged + connection->receive_window;
	out->receive_window = edge - out->receive_next;
	if (connection != NULL) {
		out->send_window = connection->send_window;
		out->send_window_max = connection->send_window_max;
		out->send_window_sequence = connection->send_window_sequence;
	} else {
		out->send_window = old->window.snd_wnd;
		out->send_window_max = old->window.max_window;
		out->send_window_sequence = old->window.snd_wl1;
	}
}

static void take_clock(const struct connection *connection, const struct socket_state *old, uint64_t now_ns, struct plan *out)
{
	bool tracked = connection != NULL && connection->clock_known;
	if (tracked)
		out->tsval = connection_timestamp(connection, now_ns);
	if (old != NULL && old->timestamps && (!tracked || sequence_after(old->timestamp, out->tsval)))
		out->tsval = old->timestamp;
	bool microseconds = old != NULL && old->timestamps ? old->microseconds : tracked && connection->microseconds;
	uint64_t margin_ms = tracked && !connection->adopted ? PLAN_CLOCK_MARGIN_MS : PLAN_CLOCK_UNSURE_MS;
	out->tsval += connection_ticks(microseconds, margin_ms * 1000000);
	/*
	 * Since Linux 6.7 the lowest bit of TCP_TIMESTAMP is no number: it makes the clock go in microseconds. A connection whose
	 * clock went a thousand times too fast was deaf after the next takeover: the remote side dropped all as old (PAWS).
	 */
	out->tsval = microseconds ? out->tsval | 1 : (out->tsval + 1) & ~1u;
	out->remote_tsval = connection ? connection->remote_tsval : 0;
}

enum plan_verdict plan_make(const struct connection *connection, const struct pool *pool, const struct socket_state *old,
			    const struct view *view, uint64_t now_ns, struct plan *out)
{
	memset(out, 0, sizeof *out);
	if (old != NULL && !old->connected)
		old = NULL;
	if (connection == NULL && old == NULL)
		return PLAN_UNKNOWN;
	if (view->since_checkpoint && old == NULL)
		return PLAN_INCOHERENT;
	if (!view->since_checkpoint && (connection == NULL || connection->adopted))
		return PLAN_UNKNOWN;
	if (connection != NULL && !connection->opened)
		return PLAN_NOT_OPEN;
	if (connection != NULL && !connection_whole(connection))
		return PLAN_INCOMPLETE;
	out->tuple = connection ? connection->tuple : old->tuple;
	out->reset = connection != NULL && connection->stage == STAGE_RESET;
	out->remote_fin = (connection != NULL && connection->remote_fin) || (old != NULL && old->remote_fin);
	out->closed = view->closed;
	out->shut_read = view->shut_read;
	out->shut_write = view->shut_write || view->closed || (old != NULL && old->local_fin);
	take_terms(connection, old, out);
	bool fin_acknowledged;
	enum plan_verdict verdict = take_output(connection, old, view, &fin_acknowledged, out);
	if (verdict != PLAN_REBUILD)
		return verdict;
	bool heard = connection != NULL && connection->heard_after_fin;
	if (view->closed && (out->reset || (fin_acknowledged && out->remote_fin && heard)))
		return PLAN_OVER;
	verdict = take_input(connection, pool, old, view, out);
	if (verdict != PLAN_REBUILD)
		return verdict;
	take_windows(connection, old, out);
	take_clock(connection, old, now_ns, out);
	/* What it has sent it may still hold as unacknowledged; a FIN is acknowledged when it is put in. */
	out->acknowledge = !out->remote_fin && connection != NULL && connection->input.next > 0;
	return PLAN_REBUILD;
}
