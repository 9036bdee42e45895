/* Heartbeats on the network: sends one each interval, judges what comes, notices silence. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gate/gate.h"

#define AGENT_TRUSTED_NS 1000000000ull /* an agent that said nothing for this long is taken for dead */
#define DATAGRAMS_A_TURN_MAX 64
/* Copies of input come by the same way, and a beat behind them must be found: all that the socket's buffer takes. */
#define COPIES_A_TURN_MAX 16384
#define RECEIVE_BYTES (4 << 20)

int beat_open(struct gate *gate)
{
	const struct options *options = gate->options;
	uint64_t incarnation = 0;
	while (incarnation == 0)
		if (getrandom(&incarnation, sizeof incarnation, 0) != sizeof incarnation)
			return -1;
	peer_init(&gate->peer, incarnation, options->heartbeat_ns * options->miss_limit, options->lease_ns);
	gate->pair_hash = siphash(options->key, options->pair, strlen(options->pair));
	gate->beat_fd = -1;
	gate->next_beat_ns = UINT64_MAX;
	if (!options->heartbeat)
		return 0;
	int one = 1;
	gate->beat_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* The link, and with it the address, may be away just now; the gate must start all the same. */
	if (gate->beat_fd < 0 || setsockopt(gate->beat_fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) != 0 ||
	    bind(gate->beat_fd, (const struct sockaddr *)&options->heartbeat_local,
		 sizeof options->heartbeat_local) != 0)
		return -1;
	/* Best effort: with less of it copies are lost sooner. */
	int bytes = RECEIVE_BYTES;
	(void)setsockopt(gate->beat_fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
	gate->next_beat_ns = clock_now_ns();
	return 0;
}

/* `usage_usec N` of cgroup v2's cpu.stat, or the bare nanoseconds of v1's cpuacct.usage. */
static uint64_t container_cpu_ns(struct gate *gate)
{
	char text[1024];
	if (gate->cpu_fd < 0)
		return 0;
	ssize_t length = pread(gate->cpu_fd, text, sizeof text - 1, 0);
	if (length <= 0)
		return 0;
	text[length] = 0;
	const char *usage = strstr(text, "usage_usec ");
	return usage == NULL ? strtoull(text, NULL, 10) : strtoull(usage + 11, NULL, 10) * 1000;
}

static void send_beat(struct gate *gate)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	bool fresh = gate->own.told_ns != 0 && gate->now_ns - gate->own.told_ns <= AGENT_TRUSTED_NS;
	struct heartbeat beat = {
		.pair_hash = gate->pair_hash,
		.generation = gate->generation,
		.epoch = fresh && gate->own.epoch != 0 ? gate->own.epoch : gate->epoch,
		.committed = gate->committed,
		.cpu_ns = container_cpu_ns(gate),
		.agent = fresh && gate->own.agent,
		.lan = gate->lan_up && (!fresh || gate->own.lan),
		.app = gate->own.app,
		.mode = gate->mode,
	};
	peer_compose(&gate->peer, &beat, gate->now_ns);
	heartbeat_encode(&beat, gate->options->key, bytes);
	ssize_t sent = sendto(gate->beat_fd, bytes, sizeof bytes, MSG_DONTWAIT,
			      (const struct sockaddr *)&gate->options->heartbeat_peer,
			      sizeof gate->options->heartbeat_peer);
	/* A beat that could not leave is a beat that the peer misses; silence is what it is for. */
	if (sent == (ssize_t)sizeof bytes)
		gate->count.beats_sent++;
	else
		gate->count.beat_send_errors++;
}

static bool flags_changed(const struct gate *gate)
{
	const struct heartbeat *now = &gate->peer.last, *told = &gate->peer_told;
	return !gate->peer_ever_told || now->agent != told->agent || now->app != told->app || now->lan != told->lan ||
	       now->mode != told->mode || now->generation != told->generation ||
	       now->incarnation != told->incarnation;
}

static void judge(struct gate *gate, const unsigned char *bytes, size_t length)
{
	struct heartbeat beat;
	enum peer_state before = gate->peer.state;
	if (heartbeat_decode(bytes, length, gate->options->key, gate->pair_hash, &beat) != 0 ||
	    peer_receive(&gate->peer, &beat, gate->now_ns) == PEER_REFUSED) {
		gate->count.beats_refused++;
		return;
	}
	gate->count.beats_accepted++;
	if (gate->peer.state != PEER_ALIVE)
		return; /* only a greeting so far */
	if (before != PEER_ALIVE)
		event_peer(gate);
	if (flags_changed(gate)) {
		gate->peer_told = gate->peer.last;
		gate->peer_ever_told = true;
		event_peer_flags(gate);
	}
	gate_watch_fence(gate);
	/* What was committed while the lease had run out leaves now. */
	if (gate_holds(gate) && gate->held.frames > 0)
		(void)egress_release(gate);
}

void beat_receive(struct gate *gate)
{
	static unsigned char bytes[COPIES_DATAGRAM_BYTES_MAX + 1];
	for (int beats = 0, i = 0; beats < DATAGRAMS_A_TURN_MAX && i < COPIES_A_TURN_MAX; i++) {
		ssize_t length = recv(gate->beat_fd, bytes, sizeof bytes, MSG_DONTWAIT);
		if (length < 0) {
			if (errno == EAGAIN)
				return;
			continue; /* ECONNREFUSED and its like: a report about an earlier datagram */
		}
		if (copies_magic(bytes, (size_t)length)) {
			if (!copying_received(gate, bytes, (size_t)length))
				gate->count.beats_refused++;
			continue;
		}
		beats++;
		judge(gate, bytes, (size_t)length);
	}
}

void beat_tick(struct gate *gate)
{
	if (gate->beat_fd < 0)
		return;
	if (gate->now_ns >= gate->next_beat_ns) {
		uint64_t late_ns = gate->now_ns - gate->next_beat_ns;
		/* We stood still for longer than a beat: what the peer sent meanwhile may still be on its way to us. */
		if (late_ns > gate->options->heartbeat_ns)
			peer_grant_grace(&gate->peer, gate->now_ns + gate->options->heartbeat_ns);
		send_beat(gate);
		gate->next_beat_ns += gate->options->heartbeat_ns;
		if (gate->next_beat_ns <= gate->now_ns)
			gate->next_beat_ns = gate->now_ns + gate->options->heartbeat_ns;
		/* A sink whose wake-up was missed is tried again. */
		gate->lan_sink.blocked = gate->container_sink.blocked = false;
	}
	if (gate->now_ns >= peer_deadline_ns(&gate->peer)) {
		/* Read what is there before saying that nothing is. */
		beat_receive(gate);
		if (peer_fell_silent(&gate->peer, gate->now_ns))
			event_peer(gate);
	}
}

void beat_amid(struct gate *gate, uint64_t frames_done)
{
	if (frames_done % 64 != 63)
		return;
	gate->now_ns = clock_now_ns();
	beat_tick(gate);
}

uint64_t beat_deadline_ns(const struct gate *gate)
{
	uint64_t silence_ns = peer_deadline_ns(&gate->peer);
	return silence_ns < gate->next_beat_ns ? silence_ns : gate->next_beat_ns;
}
