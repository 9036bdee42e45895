#include "gate/copying.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gate/gate.h"

/* Of an epoch: beyond that the wire is better used by checkpoints. What is uploaded in bulk is many frames, and TCP notices that the first are missing. */
#define EPOCH_BYTES_MAX (1u << 20)
/* Of the epochs that are not committed yet: two at most, and what is under way. */
#define KEPT_BYTES_MAX (8u << 20)

int copying_open(struct gate *gate)
{
	struct copying *copying = &gate->copying;
	struct sockaddr_in from = gate->options->heartbeat_local;
	int one = 1;
	copying->fd = -1;
	if (hold_open(&copying->keeper.kept, KEPT_BYTES_MAX) != 0)
		return -1;
	if (!gate->options->heartbeat)
		return 0;
	from.sin_port = 0;
	copying->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (copying->fd < 0 || setsockopt(copying->fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) != 0)
		return -1;
	return bind(copying->fd, (const struct sockaddr *)&from, sizeof from);
}

void copying_close(struct gate *gate)
{
	struct copying *copying = &gate->copying;
	if (copying->fd >= 0)
		close(copying->fd);
	copying->fd = -1;
	seal_end(&copying->packer.seal);
	seal_end(&copying->keeper.seal);
	hold_close(&copying->keeper.kept);
}

static bool has_listener(const struct gate *gate)
{
	return gate->mode == MODE_HOLD && gate->ship.role == SHIP_NONE && gate->copying.fd >= 0 &&
	       gate->peer.state == PEER_ALIVE && gate->peer.last.mode == MODE_CLOSED;
}

void copying_note(struct gate *gate, const unsigned char *frame, size_t length)
{
	struct copying *copying = &gate->copying;
	if (!has_listener(gate) || !frame_is_ip_to(frame, length, gate->options->mac))
		return;
	if (copying->epoch != gate->epoch) {
		copying->epoch = gate->epoch;
		copying->epoch_bytes = 0;
	}
	if (length > COPIES_FRAME_BYTES_MAX || copying->epoch_bytes + length > EPOCH_BYTES_MAX) {
		copying->omitted_frames++;
		return;
	}
	copying->epoch_bytes += length;
	copying->sent_frames++;
	if (copies_add(&copying->packer, gate->epoch, frame, length))
		return;
	copying_flush(gate);
	(void)copies_add(&copying->packer, gate->epoch, frame, length); /* an empty one takes any that is not too long */
}

void copying_flush(struct gate *gate)
{
	struct copying *copying = &gate->copying;
	if (copying->packer.length == 0)
		return;
	struct copies_head head = {.from = gate->peer.own_incarnation,
				   .to = gate->peer.incarnation,
				   .generation = gate->generation,
				   .committed = gate->committed};
	size_t length = copies_close(&copying->packer, gate->options->key, gate->options->pair, head);
	/* A copy that cannot leave is lost, as copies may be. */
	if (length > 0)
		(void)!sendto(copying->fd, copying->packer.bytes, length, MSG_DONTWAIT,
			      (const struct sockaddr *)&gate->options->heartbeat_peer, sizeof gate->options->heartbeat_peer);
}

bool copying_received(struct gate *gate, unsigned char *bytes, size_t length)
{
	struct copies_keeper *keeper = &gate->copying.keeper;
	/* Only a standby keeps them, and only from whom it knows to be no recording. */
	if (gate->mode != MODE_CLOSED || gate->peer.state != PEER_ALIVE)
		return false;
	if (keeper->generation < gate->generation)
		keeper->generation = gate->generation;
	return copies_take(keeper, gate->options->key, gate->options->pair, bytes, length, gate->peer.incarnation,
			   gate->peer.own_incarnation, gate->now_ns);
}

void copying_use(struct gate *gate, uint64_t epoch)
{
	struct copying *copying = &gate->copying;
	copies_covered(&copying->keeper, epoch);
	copying->used_frames = copying->keeper.kept.frames;
	fprintf(stderr, "%llu frames of input that came after epoch %llu are delivered again\n",
		(unsigned long long)copying->used_frames, (unsigned long long)epoch);
}

void copying_forget(struct gate *gate)
{
	hold_clear(&gate->copying.keeper.kept);
}
