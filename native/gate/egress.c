/* Container → LAN: read, stamp, hold, release in order. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gate/gate.h"
#include "gate/invariant.h"

bool egress_has_room(struct gate *gate)
{
	return hold_reserve(&gate->held, FRAME_BYTES_MAX) != NULL && (gate->mode != MODE_LOG || ship_takes_stamps(gate));
}

/* More than an interface's queue has room for. */
enum { FORGOTTEN_FRAMES_MAX = 1 << 16 };

/* Reads and forgets. Also empties what a former gate's life left in the device. */
static void discard(struct gate *gate, unsigned frames_max)
{
	static unsigned char scratch[FRAME_BYTES_MAX];
	while (frames_max-- > 0) {
		ssize_t length = read(gate->container.fd, scratch, sizeof scratch);
		if (length <= 0) {
			if (length < 0 && errno != EAGAIN && errno != EINTR)
				container_lost(gate);
			return;
		}
		gate->count.dropped_out_frames++;
	}
}

void egress_forget(struct gate *gate)
{
	if (gate->container.fd >= 0)
		discard(gate, FORGOTTEN_FRAMES_MAX);
}

/* 0: sent or impossible to send. -1: the LAN takes nothing now. */
static int write_lan(struct gate *gate, const unsigned char *bytes, size_t length)
{
	for (;;) {
		ssize_t written = write(gate->lan.fd, bytes, length);
		if (written >= 0) {
			gate->count.released_frames++;
			gate->count.released_bytes += length - VIRTIO_HEADER_BYTES;
			return 0;
		}
		if (errno == EINTR)
			continue;
		/* EIO: the device was set down. That is a stall until it is up again, no reason to lose output. */
		if (errno == EAGAIN || errno == EIO || errno == ENOBUFS || errno == ENOMEM) {
			gate->lan_sink.blocked = true;
			return -1;
		}
		INVARIANT(errno != EBADF && errno != EBADFD && errno != EFAULT);
		if (gate->count.refused_out_frames++ % 1000 == 0)
			fprintf(stderr, "the kernel refused a frame of %zu bytes: %s\n", length, strerror(errno));
		return 0;
	}
}

/* ARP and ICMP; false when it has to wait like any output. */
static bool passes_now(struct gate *gate, const unsigned char *frame, size_t length)
{
	if (!gate_holds(gate) || gate->lan_sink.blocked || !frame_passes_under_lease(frame, length))
		return false;
	gate->now_ns = clock_now_ns();
	if (!gate_lease_fresh(gate) || write_lan(gate, frame, length) != 0)
		return false;
	gate->count.lease_passed_frames++;
	return true;
}

/* What has to be safe before a frame that was just read may leave; in mode log, that is settled for many at once. */
static uint64_t stamp_of(const struct gate *gate)
{
	switch (gate->mode) {
	case MODE_HOLD:
		INVARIANT(gate->epoch > gate->committed);
		return gate->epoch;
	case MODE_LOG:
		return HOLD_UNSETTLED;
	case MODE_OPEN:
	case MODE_CLOSED:
	case MODE_TAKEOVER:
		break;
	}
	INVARIANT(gate->mode == MODE_OPEN);
	return 0;
}

static void take(struct gate *gate, const unsigned char *frame, size_t length, uint64_t now_ns)
{
	gate->count.out_frames++;
	gate->count.out_bytes += length - VIRTIO_HEADER_BYTES;
	if (passes_now(gate, frame, length))
		return;
	hold_commit(&gate->held, length, stamp_of(gate), now_ns);
	if (gate->mode == MODE_LOG && ship_notes(frame, length))
		hold_settle(&gate->held, ship_stamp(gate, frame, length));
	if (gate->held.bytes > gate->held_bytes_peak)
		gate->held_bytes_peak = gate->held.bytes;
	if (gate->mode == MODE_HOLD && !gate->held_told) {
		gate->held_told = true;
		event_held(gate);
	}
}

static void tell_bound(struct gate *gate, bool reached)
{
	if (reached == gate->bound_told)
		return;
	gate->bound_told = reached;
	if (reached)
		gate->count.bound_count++;
	event_bound(gate, reached);
}

void egress_read(struct gate *gate, unsigned frames_max)
{
	if (gate->container.fd < 0 || gate->mode == MODE_TAKEOVER)
		return;
	if (gate->mode == MODE_CLOSED) {
		discard(gate, frames_max);
		return;
	}
	size_t held_before = gate->held.frames;
	uint64_t now_ns = clock_now_ns();
	while (frames_max-- > 0) {
		if (gate->mode == MODE_LOG && !ship_takes_stamps(gate))
			break;
		unsigned char *room = hold_reserve(&gate->held, FRAME_BYTES_MAX);
		if (room == NULL) {
			tell_bound(gate, true);
			break;
		}
		ssize_t length = read(gate->container.fd, room, FRAME_BYTES_MAX);
		if (length < 0) {
			if (errno != EAGAIN && errno != EINTR)
				container_lost(gate);
			break;
		}
		if ((size_t)length <= VIRTIO_HEADER_BYTES)
			continue;
		take(gate, room, (size_t)length, now_ns);
		beat_amid(gate, frames_max);
	}
	if (gate->mode != MODE_LOG || gate->held.frames == held_before)
		return;
	/* One look at the log for all that were read: it comes after each. */
	if (gate->held.unsettled > 0)
		hold_settle(&gate->held, ship_position(gate));
	ship_output(gate, gate->held.frames - held_before);
}

static bool may_leave(struct gate *gate, const struct hold_frame *frame)
{
	if (gate_fenced(gate))
		return false;
	switch (gate->mode) {
	case MODE_OPEN:
		return true;
	case MODE_HOLD:
		/* Committed is not enough: a host that stood still since the ack may have been replaced meanwhile. The lease
		 * is shorter than the standby's patience, so under it nobody else can speak yet. */
		return frame->stamp <= gate->committed && (!gate->options->heartbeat || gate_lease_fresh(gate));
	case MODE_LOG:
		return ship_covers(gate, frame->stamp) && (!gate->options->heartbeat || gate_lease_fresh(gate));
	case MODE_CLOSED:
	case MODE_TAKEOVER:
		break;
	}
	return false;
}

struct released egress_release(struct gate *gate)
{
	struct released released = {0};
	const struct hold_frame *frame;
	if (gate->lan_sink.blocked || gate->held.frames == 0)
		return released;
	uint64_t now_ns = gate->now_ns = clock_now_ns();
	while ((frame = hold_oldest(&gate->held)) != NULL && may_leave(gate, frame)) {
		size_t length = frame->length;
		uint64_t delay_us = (now_ns - frame->arrived_ns) / 1000;
		if (write_lan(gate, frame->bytes, length) != 0)
			break;
		hold_pop(&gate->held);
		histogram_add(&gate->delay, delay_us);
		released.frames++;
		released.bytes += length - VIRTIO_HEADER_BYTES;
		released.delay_us_sum += delay_us;
		if (delay_us > released.delay_us_max)
			released.delay_us_max = delay_us;
		beat_amid(gate, released.frames);
	}
	/* Not at once: a gate that hovers at its bound would speak without end. */
	if (gate->bound_told && hold_used(&gate->held) <= gate->held.size / 4 * 3 && egress_has_room(gate))
		tell_bound(gate, false);
	return released;
}

int egress_send_own(struct gate *gate, const unsigned char *frame, size_t length)
{
	return write(gate->lan.fd, frame, length) < 0 ? -1 : 0;
}
