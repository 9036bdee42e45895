/* The gate in numbers. */
#include "gate/gate.h"

void lease_reply(struct gate *gate, struct line_writer *reply)
{
	const struct lease *lease = &gate->peer.lease;
	line_u64(reply, "lease_fresh", gate_lease_fresh(gate));
	line_i64(reply, "lease_age_us", lease->proven_ns == 0 ? -1 : (int64_t)((gate->now_ns - lease->proven_ns) / 1000));
	line_u64(reply, "lease_length_us", lease->length_ns / 1000);
	line_u64(reply, "fenced", gate_fenced(gate));
}

static void state(const struct gate *gate, struct line_writer *reply)
{
	line_raw(reply, "mode", mode_name(gate->mode));
	line_u64(reply, "generation", gate->generation);
	line_u64(reply, "epoch", gate->epoch);
	line_u64(reply, "committed", gate->committed);
	line_u64(reply, "marked", gate->marked);
	line_u64(reply, "marked_us", gate->marked ? (gate->now_ns - gate->marked_ns) / 1000 : 0);
	line_u64(reply, "container", gate->container.fd >= 0);
	line_raw(reply, "lan", gate->lan_up ? "up" : "down");
	line_u64(reply, "lan_ports", gate->uplink_ports.ports);
	line_u64(reply, "lan_live", gate->uplink_ports.live);
	line_u64(reply, "lan_blocked", gate->lan_sink.blocked);
}

static void traffic(const struct gate *gate, struct line_writer *reply)
{
	const struct counters *count = &gate->count;
	const struct hold_frame *oldest = hold_oldest(&gate->held);
	line_u64(reply, "in_frames", count->in_frames);
	line_u64(reply, "in_bytes", count->in_bytes);
	line_u64(reply, "out_frames", count->out_frames);
	line_u64(reply, "out_bytes", count->out_bytes);
	line_u64(reply, "delivered_frames", count->delivered_frames);
	line_u64(reply, "delivered_bytes", count->delivered_bytes);
	line_u64(reply, "released_frames", count->released_frames);
	line_u64(reply, "released_bytes", count->released_bytes);
	line_u64(reply, "lease_passed_frames", count->lease_passed_frames);
	line_u64(reply, "dropped_in_frames", count->dropped_in_frames);
	line_u64(reply, "dropped_out_frames", count->dropped_out_frames);
	line_u64(reply, "refused_out_frames", count->refused_out_frames);
	line_u64(reply, "held_frames", gate->held.frames);
	line_u64(reply, "held_bytes", gate->held.bytes);
	line_u64(reply, "held_bytes_peak", gate->held_bytes_peak);
	line_u64(reply, "held_bytes_max", gate->held.size);
	line_u64(reply, "held_oldest_us",
		 oldest == NULL || gate->now_ns < oldest->arrived_ns ? 0 : (gate->now_ns - oldest->arrived_ns) / 1000);
	line_u64(reply, "queued_frames", gate->queued.frames);
	line_u64(reply, "queued_bytes", gate->queued.bytes);
	line_u64(reply, "bound", gate->bound_told);
	line_u64(reply, "bound_count", count->bound_count);
}

static void delay(const struct gate *gate, struct line_writer *reply)
{
	line_u64(reply, "delay_count", gate->delay.count);
	line_u64(reply, "delay_us_sum", gate->delay.sum_us);
	line_u64(reply, "delay_us_avg", histogram_average(&gate->delay));
	line_u64(reply, "delay_us_p50", histogram_percentile(&gate->delay, 50));
	line_u64(reply, "delay_us_p99", histogram_percentile(&gate->delay, 99));
	line_u64(reply, "delay_us_max", gate->delay.max_us);
}

static void other_side(const struct gate *gate, struct line_writer *reply)
{
	const struct peer *peer = &gate->peer;
	const struct heartbeat *last = &peer->last;
	line_raw(reply, "peer_state", peer_state_name(peer->state));
	line_u64(reply, "peer_silent_us", peer->heard_ns == 0 ? 0 : (gate->now_ns - peer->heard_ns) / 1000);
	line_u64(reply, "peer_rtt_us", peer->rtt_ns / 1000);
	line_u64(reply, "peer_agent", last->agent);
	line_raw(reply, "peer_app", app_name(last->app));
	line_u64(reply, "peer_lan", last->lan);
	line_u64(reply, "peer_generation", last->generation);
	line_u64(reply, "peer_epoch", last->epoch);
	line_u64(reply, "peer_committed", last->committed);
	line_raw(reply, "peer_mode", mode_name(last->mode));
	line_u64(reply, "peer_cpu_ns", last->cpu_ns);
	line_u64(reply, "beats_sent", gate->count.beats_sent);
	line_u64(reply, "beats_accepted", gate->count.beats_accepted);
	line_u64(reply, "beats_refused", gate->count.beats_refused);
	line_u64(reply, "beat_send_errors", gate->count.beat_send_errors);
	line_u64(reply, "copies_sent", gate->copying.sent_frames);
	line_u64(reply, "copies_omitted", gate->copying.omitted_frames + gate->copying.keeper.omitted);
	line_u64(reply, "copies_kept", gate->copying.keeper.kept.frames);
	line_u64(reply, "copies_used", gate->copying.used_frames);
}

static void shipping(const struct gate *gate, struct line_writer *reply)
{
	const struct ship *ship = &gate->ship;
	line_raw(reply, "ship", ship_role_name(ship->role));
	line_u64(reply, "ship_up", ship->up_told);
	line_u64(reply, "log_acked", ship_acked(gate));
	if (ship->role == SHIP_SOURCE) {
		const struct source *source = &ship->source;
		line_u64(reply, "log_end", source->queue.end);
		line_u64(reply, "log_bytes", source->lane_bytes);
		line_u64(reply, "log_free_bytes", log_free_bytes(&source->log));
		line_u64(reply, "log_waits", atomic_load(&source->log.header->waits));
		line_u64(reply, "log_held_frames", gate->mode == MODE_LOG ? gate->held.frames : 0);
		line_u64(reply, "log_held_bytes", gate->mode == MODE_LOG ? gate->held.bytes : 0);
		line_u64(reply, "frames_used", source_frames_used(source));
		line_u64(reply, "frames_room", source->frames_room);
		line_u64(reply, "ship_connections", ship->sender.connections);
		line_u64(reply, "ship_flushes", ship->sender.flushes);
		line_u64(reply, "ship_acks", ship->sender.acks);
		line_u64(reply, "ship_delay_count", ship->sender.delay.count);
		line_u64(reply, "ship_delay_us_avg", histogram_average(&ship->sender.delay));
		line_u64(reply, "ship_delay_us_p50", histogram_percentile(&ship->sender.delay, 50));
		line_u64(reply, "ship_delay_us_p99", histogram_percentile(&ship->sender.delay, 99));
		line_u64(reply, "ship_delay_us_max", ship->sender.delay.max_us);
		line_u64(reply, "spins", gate->spin.tried);
		line_u64(reply, "spins_paid", gate->spin.paid);
	} else if (ship->role == SHIP_MIRROR) {
		line_u64(reply, "log_bytes", ship->mirror.lane_bytes);
		line_u64(reply, "log_generation", ship->mirror.frames.now.generation);
		line_u64(reply, "log_checkpoint", ship->mirror.frames.now.checkpoint);
		line_u64(reply, "frames_used", frames_used(&ship->mirror.frames));
		line_u64(reply, "frames_room", ship->mirror.frames.ring_bytes);
	}
}

void stats_reply(struct gate *gate, const struct line *line, struct line_writer *reply)
{
	uint64_t reset = 0;
	if (line_get_u64_or(line, "reset", 0, &reset) != 0 || reset > 1) {
		line_fail(reply, "usage", 0, "reset is 0 or 1");
		return;
	}
	line_begin(reply, "ok");
	state(gate, reply);
	traffic(gate, reply);
	delay(gate, reply);
	lease_reply(gate, reply);
	other_side(gate, reply);
	shipping(gate, reply);
	line_end(reply);
	if (reset == 1) {
		histogram_reset(&gate->delay);
		histogram_reset(&gate->ship.sender.delay);
		gate->held_bytes_peak = gate->held.bytes;
	}
}
