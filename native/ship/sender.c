#include "ship/sender.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_NS 50000000ull
#define REFUSED_RETRY_NS 500000000ull
#define PATIENCE_NS 2000000000ull
#define UNACKED_MS_MAX 1000 /* of the kernel: a dead link is noticed though nothing says so */

void sender_open(struct sender *sender, const struct link_settings *settings, struct source *source,
		 const struct sockaddr_in *local, const struct sockaddr_in *peer, uint64_t pair_hash)
{
	memset(sender, 0, sizeof *sender);
	sender->settings = settings;
	sender->source = source;
	sender->local = *local;
	sender->local.sin_port = 0;
	sender->peer = *peer;
	sender->pair_hash = pair_hash;
	sender->why = "";
	link_reset(&sender->link, settings);
}

void sender_close(struct sender *sender)
{
	link_end(&sender->link);
	sender->up = false;
}

static void lose(struct sender *sender, const char *why, uint64_t now_ns, uint64_t retry_ns)
{
	sender->why = why;
	sender_close(sender);
	sender->next_try_ns = now_ns + retry_ns;
}

static int dial(const struct sender *sender)
{
	int one = 1, unacked_ms = UNACKED_MS_MAX;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (link_dress(fd) == 0 &&
	    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof unacked_ms) == 0 &&
	    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) == 0 &&
	    bind(fd, (const struct sockaddr *)&sender->local, sizeof sender->local) == 0 &&
	    (connect(fd, (const struct sockaddr *)&sender->peer, sizeof sender->peer) == 0 || errno == EINPROGRESS))
		return fd;
	close(fd);
	return -1;
}

static void begin(struct sender *sender, uint64_t now_ns)
{
	int fd = dial(sender);
	if (fd < 0) {
		lose(sender, "connect", now_ns, RETRY_NS);
		return;
	}
	struct ship_hello *hello = &sender->hello;
	memset(hello, 0, sizeof *hello);
	hello->pair_hash = sender->pair_hash;
	hello->generation = sender->source->generation;
	memcpy(hello->stream, sender->source->stream, sizeof hello->stream);
	memcpy(hello->log_header, sender->source->log.header, sizeof hello->log_header);
	ship_hello_seal(hello);
	sender->hello_sent = sender->in_length = sender->out_length = sender->out_sent = 0;
	sender->mark_first = sender->mark_last = 0;
	sender->connections++;
	sender->patience_ns = now_ns + PATIENCE_NS;
	link_begin(&sender->link, fd, true);
}

void sender_tick(struct sender *sender, uint64_t now_ns)
{
	if (sender->link.phase == LINK_SHUT && now_ns >= sender->next_try_ns)
		begin(sender, now_ns);
	else if (sender->link.phase != LINK_SHUT && !sender->up && now_ns >= sender->patience_ns)
		lose(sender, "no-answer", now_ns, RETRY_NS);
}

uint64_t sender_deadline_ns(const struct sender *sender)
{
	if (sender->link.phase == LINK_SHUT)
		return sender->next_try_ns;
	return sender->up ? UINT64_MAX : sender->patience_ns;
}

bool sender_wants_out(const struct sender *sender)
{
	if (sender->link.phase == LINK_GREETING)
		return sender->link.wants_out;
	return sender->link.phase == LINK_OPEN && sender->link.wants_out;
}

static bool send_hello(struct sender *sender)
{
	while (sender->hello_sent < sizeof sender->hello) {
		ssize_t n = link_write(&sender->link, (const uint8_t *)&sender->hello + sender->hello_sent,
				       sizeof sender->hello - sender->hello_sent);
		if (n <= 0)
			return n == 0;
		sender->hello_sent += (size_t)n;
	}
	return true;
}

/* Reads until `in` holds `wanted` bytes. 1, 0: not yet, -1: dead. */
static int gather(struct sender *sender, size_t wanted)
{
	while (sender->in_length < wanted) {
		ssize_t n = link_read(&sender->link, sender->in + sender->in_length, wanted - sender->in_length);
		if (n <= 0)
			return (int)n;
		sender->in_length += (size_t)n;
	}
	return 1;
}

/* NULL, or why there is nothing to go on with. */
static const char *welcomed(struct sender *sender, const struct ship_welcome *welcome)
{
	struct source *source = sender->source;
	const char *wrong = ship_welcome_wrong(welcome);
	if (wrong != NULL)
		return wrong;
	if (welcome->verdict != SHIP_ACCEPTED)
		return ship_verdict_name(welcome->verdict);
	if (!source->frames_base_known) {
		source->frames_base_known = true;
		source->frames_base = welcome->frames_used;
	}
	source->frames_room = welcome->frames_bytes;
	if (welcome->offset < source->queue.acked)
		return "standby-forgot";
	if (!source_acked(source, welcome->offset) ||
	    !ship_queue_resume(&source->queue, welcome->offset, welcome->sequence))
		return "unknown-position";
	return NULL;
}

static bool await_welcome(struct sender *sender, uint64_t now_ns)
{
	struct ship_welcome welcome;
	int got = gather(sender, sizeof welcome);
	if (got <= 0)
		return got == 0;
	memcpy(&welcome, sender->in, sizeof welcome);
	sender->in_length = 0;
	const char *wrong = welcomed(sender, &welcome);
	if (wrong != NULL) {
		lose(sender, wrong, now_ns, REFUSED_RETRY_NS);
		return true;
	}
	sender->up = true;
	return true;
}

static void measure(struct sender *sender, uint64_t acked, uint64_t now_ns)
{
	for (; sender->mark_first < sender->mark_last; sender->mark_first++) {
		uint64_t at = sender->mark_first % SENDER_MARKS, sent_ns = sender->marks[at].sent_ns;
		if (sender->marks[at].offset > acked)
			return;
		histogram_add(&sender->delay, now_ns > sent_ns ? (now_ns - sent_ns) / 1000 : 0);
	}
}

/* NULL, or what is wrong. */
static const char *take_acks(struct sender *sender, uint64_t now_ns)
{
	size_t at = 0;
	struct ship_ack ack;
	for (; sender->in_length - at >= sizeof ack; at += sizeof ack) {
		memcpy(&ack, sender->in + at, sizeof ack);
		const char *wrong = ship_ack_wrong(&ack);
		if (wrong != NULL)
			return wrong;
		if (!source_acked(sender->source, ack.offset))
			return "impossible-ack";
		sender->acks++;
	}
	sender->in_length -= at;
	memmove(sender->in, sender->in + at, sender->in_length);
	measure(sender, sender->source->queue.acked, now_ns);
	return NULL;
}

static void hear(struct sender *sender, uint64_t now_ns)
{
	for (;;) {
		ssize_t n = link_read(&sender->link, sender->in + sender->in_length, sizeof sender->in - sender->in_length);
		if (n <= 0)
			return; /* dead, too: the caller looks */
		sender->in_length += (size_t)n;
		const char *wrong = take_acks(sender, now_ns);
		if (wrong != NULL) {
			lose(sender, wrong, now_ns, RETRY_NS);
			return;
		}
	}
}

void sender_ready(struct sender *sender, uint64_t now_ns)
{
	if (sender->link.phase == LINK_SHUT)
		return;
	bool sound = link_step(&sender->link) != LINK_DEAD, was_up = sender->up;
	if (sound && sender->link.phase == LINK_OPEN && !sender->up)
		sound = send_hello(sender) && link_flush(&sender->link) && await_welcome(sender, now_ns);
	if (sound && sender->up) {
		hear(sender, now_ns);
		/* What the socket would not take, or all that waited for a connection. What has come since is sent when the gate says so. */
		if (!was_up || sender->link.wants_out || sender->out_sent < sender->out_length)
			sender_flush(sender, now_ns);
	}
	if (sender->link.phase == LINK_DEAD)
		lose(sender, sender->link.why, now_ns, RETRY_NS);
}

static void note_sent(struct sender *sender, uint64_t now_ns)
{
	if (ship_queue_unsent(&sender->source->queue) || sender->mark_last - sender->mark_first == SENDER_MARKS)
		return;
	sender->marks[sender->mark_last % SENDER_MARKS].offset = sender->source->queue.end;
	sender->marks[sender->mark_last++ % SENDER_MARKS].sent_ns = now_ns;
}

void sender_flush(struct sender *sender, uint64_t now_ns)
{
	struct ship_queue *queue = &sender->source->queue;
	if (!sender->up)
		return;
	while (link_flush(&sender->link)) {
		if (sender->out_sent == sender->out_length) {
			sender->out_sent = 0;
			sender->out_length = ship_queue_fill(queue, sender->out, sizeof sender->out);
			if (sender->out_length == 0)
				break;
			sender->flushes++;
			note_sent(sender, now_ns);
		}
		ssize_t n = link_write(&sender->link, sender->out + sender->out_sent,
				       sender->out_length - sender->out_sent);
		if (n <= 0)
			break;
		sender->out_sent += (size_t)n;
	}
	if (sender->link.phase == LINK_DEAD)
		lose(sender, sender->link.why, now_ns, RETRY_NS);
}
