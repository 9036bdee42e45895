/*
 * The gate of one pair on one host: every frame between the container and the LAN passes here.
 *
 * Invariants of the whole, each asserted where it is kept:
 *   1. In mode hold a frame leaves only when its epoch was committed, in mode log only when the standby has acknowledged the
 *      shipping stream up to its stamp (or in both as ARP or ICMP under a fresh lease).
 *   2. A frame gets its stamp in the same step in which it is read, with those read in it: nothing is inside without one
 *      when the step ends.
 *   3. Epoch, committed and generation only go up; committed < epoch in mode hold.
 *   4. Held output is never dropped, except whole by mode closed or with the process.
 *   5. Between mark and thaw no frame reaches the container; with a stream, none that could not be put into it.
 *   6. Closed passes nothing; takeover passes nothing either way.
 *   7. While the peer serves with a higher generation nothing leaves (fenced).
 */
#ifndef FT_GATE_GATE_H
#define FT_GATE_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "gate/control.h"
#include "gate/copying.h"
#include "gate/histogram.h"
#include "gate/hold.h"
#include "gate/links.h"
#include "gate/options.h"
#include "gate/peer.h"
#include "gate/ship.h"
#include "gate/spin.h"
#include "gate/tap.h"

struct counters {
	uint64_t in_frames, in_bytes; /* from the LAN, for the container */
	uint64_t out_frames, out_bytes; /* from the container */
	uint64_t delivered_frames, delivered_bytes; /* to the container */
	uint64_t released_frames, released_bytes; /* to the LAN, those under lease among them */
	uint64_t lease_passed_frames;
	uint64_t dropped_in_frames; /* closed, no container, or refused by the kernel */
	uint64_t dropped_out_frames; /* closed */
	uint64_t refused_out_frames; /* the kernel would not take it: malformed */
	uint64_t bound_count;
	uint64_t beats_sent, beats_accepted, beats_refused, beat_send_errors;
};

/* What the agent wants in the heartbeats. */
struct own_state {
	uint64_t told_ns; /* 0: never */
	enum app_state app;
	bool agent;
	bool lan;
	uint64_t epoch;
};

/* The other end of a flow takes no frames now. */
struct sink {
	bool blocked;
};

struct gate {
	const struct options *options;
	struct tap container;
	struct tap lan;
	struct hold held; /* container → LAN */
	struct hold queued; /* LAN → container */
	struct sink lan_sink;
	struct sink container_sink;

	enum mode mode;
	uint64_t generation;
	uint64_t epoch; /* stamp of what is read now; 0 only before the first mode hold */
	uint64_t committed;
	bool marked;
	uint64_t marked_by; /* connection */
	uint64_t marked_ns;
	bool held_told; /* `event held` was sent for this epoch */
	bool bound_told;
	bool fenced_told;

	struct peer peer;
	struct heartbeat peer_told; /* what the last `event peer-flags` said */
	bool peer_ever_told;
	uint64_t pair_hash;
	struct own_state own;
	int beat_fd;
	uint64_t next_beat_ns;
	int cpu_fd;

	int links_fd;
	unsigned uplink_index;
	bool lan_up;
	struct links_summary uplink_ports;

	struct control control;
	struct counters count;
	struct histogram delay;
	uint64_t held_bytes_peak;
	struct ship ship;
	struct copying copying;
	struct spin spin;
	enum spin_hope hope; /* of the turn that begins */

	int epoll_fd;
	uint32_t container_interest;
	uint32_t lan_interest;
	uint64_t now_ns; /* when this turn of the loop began, or later */
	bool quit;
	bool remove_on_quit;
};

uint64_t clock_now_ns(void);

/* Output waits for the standby, in one of two ways. */
static inline bool gate_holds(const struct gate *gate)
{
	return gate->mode == MODE_HOLD || gate->mode == MODE_LOG;
}

/* egress.c: container → LAN */
void egress_read(struct gate *gate, unsigned frames_max);
void egress_forget(struct gate *gate); /* what the container has said and nobody has read */
struct released {
	uint64_t frames, bytes, delay_us_sum, delay_us_max;
};
struct released egress_release(struct gate *gate);
bool egress_has_room(struct gate *gate);
/* One of the gate's own frames. -1 with errno. */
int egress_send_own(struct gate *gate, const unsigned char *frame, size_t length);

/* ingress.c: LAN → container */
void ingress_read(struct gate *gate, unsigned frames_max);
void ingress_deliver(struct gate *gate);
bool ingress_has_room(struct gate *gate);
/* Whether frames go to the container now. */
bool ingress_flows(const struct gate *gate);

/* state.c: modes, epochs, the fence. Results are 0, or a failure code for the reply. `epoch`: in mode hold the next one, in mode open after
 * a takeover the one that was restored (0: copies of input are of no use). */
const char *gate_set_mode(struct gate *gate, enum mode mode, uint64_t generation, uint64_t epoch,
			  struct released *released, uint64_t *discarded);
const char *gate_mark(struct gate *gate, uint64_t epoch, uint64_t connection, bool *drained);
void gate_thaw(struct gate *gate);
const char *gate_commit(struct gate *gate, uint64_t epoch, struct released *released);
bool gate_fenced(const struct gate *gate);
bool gate_lease_fresh(const struct gate *gate);
/* After anything that may have changed it: says so once. */
void gate_watch_fence(struct gate *gate);

/* container.c: the container's end comes and goes */
int container_attach(struct gate *gate, pid_t pid, const char **step);
void container_lost(struct gate *gate);

/* beat.c: heartbeats on the network */
int beat_open(struct gate *gate);
void beat_receive(struct gate *gate);
void beat_tick(struct gate *gate);
/* For loops over many frames: a long release must not look like a dead host. Cheap when called for each frame. */
void beat_amid(struct gate *gate, uint64_t frames_done);
uint64_t beat_deadline_ns(const struct gate *gate);

/* uplink.c: the carrier of the way out */
int uplink_open(struct gate *gate);
void uplink_changed(struct gate *gate);

/* events.c */
void event_held(struct gate *gate);
void event_bound(struct gate *gate, bool reached);
void event_peer(struct gate *gate);
void event_peer_flags(struct gate *gate);
void event_lan(struct gate *gate);
void event_plain(struct gate *gate, const char *name);
void event_fenced(struct gate *gate);
void event_ship(struct gate *gate);
void event_log_full(struct gate *gate);
void event_log_broken(struct gate *gate);
/* What a new subscriber must know to start from. */
void event_snapshot(struct gate *gate, uint64_t connection);

/* verbs.c, stats.c: fill the reply */
void verb_run(struct gate *gate, uint64_t connection, const struct line *line, struct line_writer *reply);
void stats_reply(struct gate *gate, const struct line *line, struct line_writer *reply);
void lease_reply(struct gate *gate, struct line_writer *reply);

#endif
