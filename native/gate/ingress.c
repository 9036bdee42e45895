/* LAN → container: pass, or queue while the container is frozen or being restored. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gate/gate.h"
#include "gate/invariant.h"

bool ingress_flows(const struct gate *gate)
{
	return (gate_holds(gate) || gate->mode == MODE_OPEN) && !gate->marked;
}

bool ingress_has_room(struct gate *gate)
{
	return hold_reserve(&gate->queued, FRAME_BYTES_MAX) != NULL;
}

static ssize_t read_lan(struct gate *gate, unsigned char *room)
{
	ssize_t length = read(gate->lan.fd, room, FRAME_BYTES_MAX);
	/* Without its LAN side a gate is of no use; the next one makes it anew. */
	INVARIANT(length >= 0 || errno == EAGAIN || errno == EINTR);
	return length;
}

static void discard(struct gate *gate, unsigned frames_max)
{
	static unsigned char scratch[FRAME_BYTES_MAX];
	while (frames_max-- > 0 && read_lan(gate, scratch) > 0)
		gate->count.dropped_in_frames++;
}

void ingress_read(struct gate *gate, unsigned frames_max)
{
	bool kept = gate->mode != MODE_CLOSED && (gate->container.fd >= 0 || !ingress_flows(gate));
	if (!kept) {
		discard(gate, frames_max);
		return;
	}
	uint64_t now_ns = clock_now_ns();
	while (frames_max-- > 0) {
		unsigned char *room = hold_reserve(&gate->queued, FRAME_BYTES_MAX);
		if (room == NULL)
			break; /* back-pressure: the device keeps the oldest, the kernel drops what does not fit there */
		ssize_t length = read_lan(gate, room);
		if (length <= 0)
			break;
		/* A bridge also floods what is meant for others. */
		if (!frame_is_for(room, (size_t)length, gate->options->mac))
			continue;
		gate->count.in_frames++;
		gate->count.in_bytes += (size_t)length - VIRTIO_HEADER_BYTES;
		copying_note(gate, room, (size_t)length);
		hold_commit(&gate->queued, (size_t)length, 0, now_ns);
	}
	ingress_deliver(gate);
	copying_flush(gate);
}

/* False: the container takes nothing now. */
static bool write_container(struct gate *gate, const struct hold_frame *frame)
{
	for (;;) {
		if (write(gate->container.fd, frame->bytes, frame->length) >= 0) {
			gate->count.delivered_frames++;
			gate->count.delivered_bytes += frame->length - VIRTIO_HEADER_BYTES;
			ship_delivered(gate, frame);
			return true;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
			gate->container_sink.blocked = true;
			return false;
		}
		/* Set down, gone, or a frame the kernel refuses. A network may lose input. */
		gate->count.dropped_in_frames++;
		if (errno == EBADFD)
			container_lost(gate);
		return true;
	}
}

/* What the old primary's container met after the checkpoint: older than anything that is queued here. */
static void deliver_copies(struct gate *gate)
{
	struct hold *kept = &gate->copying.keeper.kept;
	const struct hold_frame *frame;
	while (gate->mode == MODE_OPEN && gate->container.fd >= 0 && !gate->container_sink.blocked && (frame = hold_oldest(kept)) != NULL) {
		if (!write_container(gate, frame))
			return;
		hold_pop(kept);
		beat_amid(gate, kept->frames);
	}
}

void ingress_deliver(struct gate *gate)
{
	const struct hold_frame *frame;
	deliver_copies(gate);
	while (ingress_flows(gate) && !gate->container_sink.blocked && (frame = hold_oldest(&gate->queued)) != NULL) {
		INVARIANT(!gate->marked);
		/* What the standby could not be told of must not reach the container. */
		if (!ship_takes_ingress(gate, frame->length))
			return;
		if (gate->container.fd < 0)
			gate->count.dropped_in_frames++;
		else if (!write_container(gate, frame))
			return;
		hold_pop(&gate->queued);
		beat_amid(gate, gate->queued.frames);
	}
}
