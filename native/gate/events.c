/* What subscribers are told. Edges, not levels; a new subscriber gets the present levels as if they were edges. */
#include <stdio.h>
#include <string.h>

#include "gate/gate.h"

static void held(const struct gate *gate, struct line_writer *line)
{
	line_begin(line, "event held");
	line_u64(line, "epoch", gate->epoch);
	line_end(line);
}

static void bound(const struct gate *gate, bool reached, struct line_writer *line)
{
	line_begin(line, reached ? "event bound" : "event bound-clear");
	line_u64(line, "held_bytes", gate->held.bytes);
	line_end(line);
}

static void peer(const struct gate *gate, struct line_writer *line)
{
	const struct peer *other = &gate->peer;
	line_begin(line, "event peer");
	line_raw(line, "state", peer_state_name(other->state));
	line_u64(line, "silent_us", other->heard_ns == 0 ? 0 : (clock_now_ns() - other->heard_ns) / 1000);
	line_end(line);
}

static void peer_flags(const struct gate *gate, struct line_writer *line)
{
	const struct heartbeat *last = &gate->peer.last;
	line_begin(line, "event peer-flags");
	line_u64(line, "agent", last->agent);
	line_raw(line, "app", app_name(last->app));
	line_u64(line, "lan", last->lan);
	line_u64(line, "generation", last->generation);
	line_u64(line, "epoch", last->epoch);
	line_raw(line, "mode", mode_name(last->mode));
	line_u64(line, "cpu_ns", last->cpu_ns);
	line_end(line);
}

static void lan(const struct gate *gate, struct line_writer *line)
{
	line_begin(line, "event lan");
	line_raw(line, "state", gate->lan_up ? "up" : "down");
	line_u64(line, "ports", gate->uplink_ports.ports);
	line_u64(line, "live", gate->uplink_ports.live);
	line_end(line);
}

static void fenced(const struct gate *gate, struct line_writer *line)
{
	line_begin(line, "event fenced");
	line_u64(line, "generation", gate->generation);
	line_u64(line, "peer_generation", gate->peer.last.generation);
	line_end(line);
}

static void ship_link(const struct gate *gate, struct line_writer *line)
{
	const struct ship *ship = &gate->ship;
	line_begin(line, ship->up_told ? "event ship-back" : "event ship-lost");
	line_raw(line, "role", ship_role_name(ship->role));
	line_u64(line, "log_acked", ship_acked(gate));
	if (!ship->up_told)
		line_text(line, "reason", ship_why(gate));
	line_end(line);
}

static void log_full(const struct gate *gate, struct line_writer *line)
{
	line_begin(line, gate->ship.full_told != NULL ? "event log-full" : "event log-room");
	if (gate->ship.full_told != NULL)
		line_raw(line, "where", gate->ship.full_told);
	line_end(line);
}

static void log_broken(const struct gate *gate, struct line_writer *line)
{
	line_begin(line, "event log-broken");
	line_raw(line, "reason", gate->ship.source.broken);
	line_end(line);
}

static void publish(struct gate *gate, const struct line_writer *line)
{
	/* `held` comes once an epoch; the log is for what is rare. */
	if (strncmp(line->text, "event held", 10) != 0)
		fprintf(stderr, "%.*s", (int)line->length, line->text);
	control_broadcast(&gate->control, line);
}

void event_held(struct gate *gate)
{
	struct line_writer line;
	held(gate, &line);
	publish(gate, &line);
}

void event_bound(struct gate *gate, bool reached)
{
	struct line_writer line;
	bound(gate, reached, &line);
	publish(gate, &line);
}

void event_peer(struct gate *gate)
{
	struct line_writer line;
	peer(gate, &line);
	publish(gate, &line);
}

void event_peer_flags(struct gate *gate)
{
	struct line_writer line;
	peer_flags(gate, &line);
	publish(gate, &line);
}

void event_lan(struct gate *gate)
{
	struct line_writer line;
	lan(gate, &line);
	publish(gate, &line);
}

void event_fenced(struct gate *gate)
{
	struct line_writer line;
	fenced(gate, &line);
	publish(gate, &line);
}

void event_ship(struct gate *gate)
{
	struct line_writer line;
	ship_link(gate, &line);
	publish(gate, &line);
}

void event_log_full(struct gate *gate)
{
	struct line_writer line;
	log_full(gate, &line);
	publish(gate, &line);
}

void event_log_broken(struct gate *gate)
{
	struct line_writer line;
	log_broken(gate, &line);
	publish(gate, &line);
}

void event_plain(struct gate *gate, const char *name)
{
	struct line_writer line;
	char head[64];
	snprintf(head, sizeof head, "event %s", name);
	line_begin(&line, head);
	line_end(&line);
	publish(gate, &line);
}

void event_snapshot(struct gate *gate, uint64_t connection)
{
	struct connection *to = control_find(&gate->control, connection);
	struct line_writer line;
	if (to == NULL)
		return;
	lan(gate, &line);
	control_send(&gate->control, to, &line);
	if (gate->peer.state != PEER_NONE) {
		peer(gate, &line);
		control_send(&gate->control, to, &line);
		peer_flags(gate, &line);
		control_send(&gate->control, to, &line);
	}
	if (gate->bound_told) {
		bound(gate, true, &line);
		control_send(&gate->control, to, &line);
	}
	if (gate->fenced_told) {
		fenced(gate, &line);
		control_send(&gate->control, to, &line);
	}
	if (gate->mode == MODE_HOLD && gate->held_told) {
		held(gate, &line);
		control_send(&gate->control, to, &line);
	}
	if (gate->ship.role != SHIP_NONE) {
		ship_link(gate, &line);
		control_send(&gate->control, to, &line);
	}
	if (gate->ship.full_told != NULL) {
		log_full(gate, &line);
		control_send(&gate->control, to, &line);
	}
	if (gate->ship.broken_told) {
		log_broken(gate, &line);
		control_send(&gate->control, to, &line);
	}
}
