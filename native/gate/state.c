/* Modes, epochs, generations: what may change into what, and when. */
#include <stdio.h>

#include "fault/fault.h"
#include "gate/gate.h"
#include "gate/invariant.h"

/* A mark reads what was sent before the freeze; a container that could not be frozen must not keep it reading. */
#define MARK_FRAMES_MAX 32768u

bool gate_fenced(const struct gate *gate)
{
	return peer_outranks(&gate->peer, gate->generation);
}

bool gate_lease_fresh(const struct gate *gate)
{
	return !gate_fenced(gate) && lease_fresh(&gate->peer.lease, gate->now_ns);
}

void gate_watch_fence(struct gate *gate)
{
	bool fenced = gate_fenced(gate) && gate->mode != MODE_CLOSED;
	if (fenced && !gate->fenced_told)
		event_fenced(gate);
	gate->fenced_told = fenced;
}

static const char *transition_refused(const struct gate *gate, enum mode mode, uint64_t generation, uint64_t epoch)
{
	if (generation < gate->generation)
		return "stale-generation";
	if (mode != MODE_CLOSED && peer_outranks(&gate->peer, generation))
		return "fenced";
	/* Output of a running container cannot become the queue of one to be restored. */
	if (mode == MODE_TAKEOVER && gate->mode != MODE_CLOSED && gate->mode != MODE_TAKEOVER)
		return "transition";
	if (mode == MODE_LOG)
		return gate->mode != MODE_LOG && gate->mode != MODE_HOLD ? "transition" : ship_refuses_log(gate, generation);
	/* In mode log stamps are not epochs. */
	if (mode == MODE_HOLD && ((gate->mode != MODE_LOG && epoch < gate->held.stamp_max) || epoch == 0))
		return "not-monotonic";
	/* Within one generation a checkpoint that was committed stays committed. */
	if (mode == MODE_HOLD && generation == gate->generation && gate_holds(gate) && epoch < gate->epoch)
		return "not-monotonic";
	return NULL;
}

static uint64_t discard_all(struct gate *gate)
{
	uint64_t discarded = hold_clear(&gate->held) + hold_clear(&gate->queued);
	gate->marked = false;
	gate->held_told = false;
	if (gate->bound_told) {
		gate->bound_told = false;
		event_bound(gate, false);
	}
	return discarded;
}

static void enter_hold(struct gate *gate, uint64_t epoch, enum mode before)
{
	bool changed = epoch != gate->epoch || before == MODE_LOG;
	gate->epoch = epoch;
	/* The next checkpoint covers whatever the log was to cover. */
	if (before == MODE_LOG)
		hold_restamp(&gate->held, epoch);
	/* Frames that wait from before keep waiting for their own epochs. */
	if ((before != MODE_HOLD && gate->held.frames == 0) || gate->committed >= epoch)
		gate->committed = epoch - 1;
	if (changed)
		gate->held_told = false;
	INVARIANT(gate->committed < gate->epoch);
}

const char *gate_set_mode(struct gate *gate, enum mode mode, uint64_t generation, uint64_t epoch,
			  struct released *released, uint64_t *discarded)
{
	*released = (struct released){0};
	*discarded = 0;
	if (mode == MODE_HOLD && epoch == 0)
		epoch = gate->epoch == 0 ? 1 : gate->epoch;
	const char *refused = transition_refused(gate, mode, generation, epoch);
	if (refused != NULL)
		return refused;

	fprintf(stderr, "mode %s -> %s generation %llu epoch %llu\n", mode_name(gate->mode), mode_name(mode),
		(unsigned long long)generation, (unsigned long long)epoch);
	enum mode before = gate->mode;
	gate->generation = generation;
	gate->mode = mode;
	/* Copies are for the takeover that comes, and for no other. */
	if (mode != before && mode != MODE_TAKEOVER && !(before == MODE_TAKEOVER && mode == MODE_OPEN && epoch != 0))
		copying_forget(gate);
	switch (mode) {
	case MODE_CLOSED:
		*discarded = discard_all(gate);
		break;
	case MODE_TAKEOVER:
		/* Said again when a restore is begun again: what the one before has said must never be heard. */
		egress_forget(gate);
		break;
	case MODE_HOLD:
		enter_hold(gate, epoch, before);
		ingress_deliver(gate);
		break;
	case MODE_LOG:
		/* What waits came after a checkpoint from which the stream tells all: its end covers it. */
		if (before != MODE_LOG)
			hold_restamp(&gate->held, ship_position(gate));
		break;
	case MODE_OPEN:
		gate->marked = false;
		if (before == MODE_TAKEOVER && epoch != 0)
			copying_use(gate, epoch);
		/* What was queued for the container first: it is older than anything the container will say to it. */
		ingress_deliver(gate);
		*released = egress_release(gate);
		break;
	}
	ship_mode_changed(gate);
	gate_watch_fence(gate);
	return NULL;
}

const char *gate_mark(struct gate *gate, uint64_t epoch, uint64_t connection, bool *drained)
{
	if (!gate_holds(gate))
		return "mode";
	if (gate->marked)
		return "marked";
	/* A dump that came to nothing is tried again under its number. What was read since keeps its later stamp. */
	bool again = gate->mode == MODE_HOLD && epoch + 1 == gate->epoch && epoch > gate->committed;
	if ((epoch < gate->epoch && !again) || epoch == UINT64_MAX)
		return "not-monotonic";
	if (!ship_takes_mark(gate))
		return "log-full";
	if (ft_fault("gate.mark") != 0)
		return "fault";

	/* No input from here on, so that nothing read now answers to input that the checkpoint will not hold. */
	gate->marked = true;
	gate->marked_by = connection;
	gate->marked_ns = clock_now_ns();
	if (!again)
		gate->epoch = epoch;
	uint64_t before = gate->count.out_frames;
	egress_read(gate, MARK_FRAMES_MAX);
	/* What could not be read for want of room belongs to the next epoch: later than it might be, never too early. */
	*drained = egress_has_room(gate) && gate->count.out_frames - before < MARK_FRAMES_MAX;
	gate->epoch = epoch + 1;
	gate->held_told = false;
	ship_mark(gate, epoch);
	INVARIANT(gate->committed < gate->epoch);
	return NULL;
}

void gate_thaw(struct gate *gate)
{
	gate->marked = false;
	ingress_deliver(gate);
}

const char *gate_commit(struct gate *gate, uint64_t epoch, struct released *released)
{
	*released = (struct released){0};
	if (!gate_holds(gate))
		return "mode";
	if (gate_fenced(gate))
		return "fenced";
	if (epoch <= gate->committed)
		return "not-monotonic";
	/* Output that is still being stamped has no checkpoint yet. */
	if (epoch >= gate->epoch)
		return "not-marked";
	if (ft_fault("gate.release") != 0)
		return "fault";
	gate->committed = epoch;
	ship_committed(gate, epoch);
	*released = egress_release(gate);
	INVARIANT(gate->committed < gate->epoch);
	return NULL;
}
