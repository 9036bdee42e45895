#include "ship/receiver.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gate/invariant.h"

#define PATIENCE_NS 2000000000ull
#define FULL_RETRY_NS 10000000ull
#define ROUNDS_A_TURN 8u
#define ROUND_BYTES 262144u

static int listen_at(const struct sockaddr_in *local)
{
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	/* The link, and with it the address, may be away just now. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
	    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) == 0 &&
	    bind(fd, (const struct sockaddr *)local, sizeof *local) == 0 && listen(fd, 8) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

int receiver_open(struct receiver *receiver, const struct link_settings *settings, struct mirror *mirror,
		  const struct sockaddr_in *local, uint64_t pair_hash, uint64_t generation_min)
{
	memset(receiver, 0, sizeof *receiver);
	receiver->settings = settings;
	receiver->mirror = mirror;
	receiver->pair_hash = pair_hash;
	receiver->generation_min = generation_min;
	receiver->current = -1;
	receiver->why = "";
	for (unsigned i = 0; i < RECEIVER_SLOTS; i++)
		link_reset(&receiver->slots[i].link, settings);
	receiver->in = mmap(NULL, RECEIVER_IN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (receiver->in == MAP_FAILED) {
		receiver->in = NULL;
		return -1;
	}
	receiver->listen_fd = listen_at(local);
	return receiver->listen_fd < 0 ? -1 : 0;
}

void receiver_close(struct receiver *receiver)
{
	for (unsigned i = 0; i < RECEIVER_SLOTS; i++)
		link_end(&receiver->slots[i].link);
	if (receiver->listen_fd >= 0)
		close(receiver->listen_fd);
	if (receiver->in != NULL)
		munmap(receiver->in, RECEIVER_IN_BYTES);
	receiver->listen_fd = receiver->current = -1;
	receiver->in = NULL;
}

static void drop(struct receiver *receiver, unsigned slot, const char *why)
{
	link_end(&receiver->slots[slot].link);
	if (receiver->current != (int)slot)
		return;
	receiver->current = -1;
	receiver->why = why;
	receiver->in_length = 0;
	receiver->full = receiver->hungry = receiver->ack_waits = false;
}

void receiver_outdate(struct receiver *receiver, uint64_t generation)
{
	if (generation <= receiver->generation_min)
		return;
	receiver->generation_min = generation;
	if (receiver->current >= 0 && receiver->mirror->frames.now.generation < generation)
		drop(receiver, (unsigned)receiver->current, "stale-generation");
}

/* A place for a newcomer: a free one, or that of another who has not proved anything yet. */
static unsigned place(const struct receiver *receiver)
{
	for (unsigned i = 0; i < RECEIVER_SLOTS; i++)
		if (receiver->slots[i].link.phase == LINK_SHUT)
			return i;
	return receiver->current == 0 ? 1 : 0;
}

void receiver_accept(struct receiver *receiver, uint64_t now_ns)
{
	int fd = accept4(receiver->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (link_dress(fd) != 0) {
		close(fd);
		return;
	}
	unsigned at = place(receiver);
	struct receiver_slot *slot = &receiver->slots[at];
	drop(receiver, at, "replaced");
	slot->hello_length = 0;
	slot->patience_ns = now_ns + PATIENCE_NS;
	slot->connections++;
	link_begin(&slot->link, fd, false);
	receiver_ready(receiver, at, now_ns);
}

static enum ship_verdict judge(struct receiver *receiver, const struct ship_hello *hello)
{
	if (hello->pair_hash != receiver->pair_hash)
		return SHIP_REFUSED_PAIR;
	if (hello->generation < receiver->generation_min ||
	    hello->generation < receiver->mirror->frames.now.generation)
		return SHIP_REFUSED_GENERATION;
	enum ship_verdict verdict = mirror_adopt_log(receiver->mirror, hello->log_header);
	return verdict != SHIP_ACCEPTED ? verdict
					: mirror_adopt_stream(receiver->mirror, hello->generation, hello->stream);
}

/* Judges a newcomer, and answers. False: it is gone. */
static bool welcome(struct receiver *receiver, unsigned at)
{
	struct receiver_slot *slot = &receiver->slots[at];
	const struct frames_state *now = &receiver->mirror->frames.now;
	struct ship_hello hello;
	memcpy(&hello, slot->hello, sizeof hello);
	if (ship_hello_wrong(&hello) != NULL) {
		drop(receiver, at, "");
		return false;
	}
	enum ship_verdict verdict = judge(receiver, &hello);
	struct ship_welcome reply = {.verdict = verdict, .generation = now->generation};
	if (verdict == SHIP_ACCEPTED) {
		if (receiver->current >= 0)
			drop(receiver, (unsigned)receiver->current, "replaced");
		reply.offset = now->offset;
		reply.sequence = now->sequence;
		reply.frames_bytes = receiver->mirror->frames.ring_bytes;
		reply.frames_used = frames_used(&receiver->mirror->frames);
	}
	ship_welcome_seal(&reply);
	/* The connection is new: what it cannot take at once, it will never take. */
	if (link_write(&slot->link, &reply, sizeof reply) != sizeof reply || verdict != SHIP_ACCEPTED) {
		drop(receiver, at, "");
		return false;
	}
	receiver->current = (int)at;
	receiver->acked = now->offset;
	receiver->in_length = 0;
	return true;
}

/* True: the hello is there and was accepted. */
static bool greet(struct receiver *receiver, unsigned at)
{
	struct receiver_slot *slot = &receiver->slots[at];
	while (slot->hello_length < sizeof slot->hello) {
		ssize_t n = link_read(&slot->link, slot->hello + slot->hello_length, sizeof slot->hello - slot->hello_length);
		if (n <= 0)
			return false;
		slot->hello_length += (size_t)n;
	}
	return welcome(receiver, at);
}

static void send_ack(struct receiver *receiver)
{
	struct link *link = &receiver->slots[receiver->current].link;
	const struct mirror *mirror = receiver->mirror;
	for (;;) {
		if (!receiver->ack_waits) {
			if (receiver->acked == mirror->frames.now.offset)
				return;
			receiver->ack = (struct ship_ack){.offset = mirror->frames.now.offset,
				.frames_used = frames_used(&mirror->frames)};
			ship_ack_seal(&receiver->ack);
			receiver->ack_waits = true;
		}
		ssize_t n = link_write(link, &receiver->ack, sizeof receiver->ack);
		if (n <= 0)
			return;
		INVARIANT(n == sizeof receiver->ack); /* far less than a record */
		receiver->ack_waits = false;
		receiver->acked = receiver->ack.offset;
		receiver->acks++;
	}
}

/* Stores the whole entries that are there, and makes that the truth. NULL, or what is wrong. */
static const char *store(struct receiver *receiver, uint64_t now_ns)
{
	struct mirror *mirror = receiver->mirror;
	const char *wrong = NULL;
	size_t at = 0;
	receiver->full = false;
	while (wrong == NULL && !receiver->full) {
		struct ship_entry entry;
		const uint8_t *payload;
		enum ship_decoded decoded = ship_entry_decode(receiver->in + at, receiver->in_length - at,
							      mirror->frames.now.sequence, &entry, &payload);
		if (decoded == SHIP_PART)
			break;
		enum mirror_result result = decoded == SHIP_CORRUPT ? MIRROR_CORRUPT
								   : mirror_apply(mirror, &entry, receiver->in + at, payload);
		if (result == MIRROR_STORED)
			at += ship_entry_size(entry.length);
		else if (result == MIRROR_FULL)
			receiver->full = true;
		else
			wrong = "corrupt";
	}
	receiver->in_length -= at;
	memmove(receiver->in, receiver->in + at, receiver->in_length);
	if (at > 0)
		mirror_commit(mirror);
	if (receiver->full)
		receiver->retry_ns = now_ns + FULL_RETRY_NS;
	return wrong;
}

/* What is there, up to a round's worth: one ack covers it all. False: nothing came. */
static bool read_round(struct receiver *receiver, struct link *link)
{
	size_t before = receiver->in_length;
	while (receiver->in_length < RECEIVER_IN_BYTES && receiver->in_length - before < ROUND_BYTES) {
		ssize_t n = link_read(link, receiver->in + receiver->in_length, RECEIVER_IN_BYTES - receiver->in_length);
		if (n <= 0)
			break;
		receiver->in_length += (size_t)n;
	}
	return receiver->in_length > before;
}

/* Reads, stores and acknowledges by turns, until nothing more is there. */
static void take_in(struct receiver *receiver, uint64_t now_ns)
{
	unsigned slot = (unsigned)receiver->current;
	struct link *link = &receiver->slots[slot].link;
	const char *wrong = NULL;
	receiver->hungry = false;
	for (unsigned round = 0; wrong == NULL && !receiver->full; round++) {
		if (round == ROUNDS_A_TURN) {
			receiver->hungry = true;
			break;
		}
		if (!read_round(receiver, link))
			break;
		wrong = store(receiver, now_ns);
		send_ack(receiver);
	}
	if (receiver->ack_waits)
		send_ack(receiver);
	if (wrong != NULL || link->phase == LINK_DEAD)
		drop(receiver, slot, wrong != NULL ? wrong : link->why);
}

void receiver_ready(struct receiver *receiver, unsigned slot, uint64_t now_ns)
{
	struct link *link = &receiver->slots[slot].link;
	if (link->phase == LINK_SHUT)
		return;
	enum link_phase phase = link_step(link);
	if (phase == LINK_OPEN && receiver->current != (int)slot && !greet(receiver, slot))
		phase = link->phase;
	if (phase == LINK_OPEN && receiver->current == (int)slot && link_flush(link))
		take_in(receiver, now_ns);
	if (link->phase == LINK_DEAD)
		drop(receiver, slot, link->why);
}

void receiver_tick(struct receiver *receiver, uint64_t now_ns)
{
	for (unsigned i = 0; i < RECEIVER_SLOTS; i++)
		if (receiver->current != (int)i && receiver->slots[i].link.phase != LINK_SHUT &&
		    now_ns >= receiver->slots[i].patience_ns)
			drop(receiver, i, "");
	if (receiver->current < 0)
		return;
	if (receiver->full && now_ns >= receiver->retry_ns) {
		unsigned slot = (unsigned)receiver->current;
		const char *wrong = store(receiver, now_ns);
		send_ack(receiver);
		if (wrong != NULL)
			drop(receiver, slot, wrong);
		else if (!receiver->full)
			take_in(receiver, now_ns);
	} else if (receiver->hungry) {
		take_in(receiver, now_ns);
	}
}

uint64_t receiver_deadline_ns(const struct receiver *receiver)
{
	uint64_t deadline_ns = UINT64_MAX;
	if (receiver->hungry)
		return 0;
	if (receiver->full)
		deadline_ns = receiver->retry_ns;
	for (unsigned i = 0; i < RECEIVER_SLOTS; i++)
		if (receiver->current != (int)i && receiver->slots[i].link.phase != LINK_SHUT &&
		    receiver->slots[i].patience_ns < deadline_ns)
			deadline_ns = receiver->slots[i].patience_ns;
	return deadline_ns;
}

bool receiver_wants_in(const struct receiver *receiver, unsigned slot)
{
	return receiver->current != (int)slot || !receiver->full;
}

bool receiver_wants_out(const struct receiver *receiver, unsigned slot)
{
	const struct link *link = &receiver->slots[slot].link;
	return link->phase != LINK_SHUT && link->wants_out;
}
