#include "live/rebuild.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "live/inject.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

enum { OPTION_MSS = 2, OPTION_WSCALE = 3, OPTION_SACK_PERMITTED = 4, OPTION_TIMESTAMPS = 8, QUEUE_STEP_BYTES = 32768 };
/* What a queue's byte takes of the buffer's limit, at the worst: small segments, each with its header. */
enum { BUFFER_FACTOR = 4, BUFFER_SPARE_BYTES = 1 << 18, INITIAL_SEGMENTS = 10 };

struct repair_option {
	uint32_t code, value;
};

static socklen_t make_address(int domain, uint32_t address, uint16_t port, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof *out);
	if (domain == AF_INET6) {
		struct sockaddr_in6 *mapped = (struct sockaddr_in6 *)out;
		mapped->sin6_family = AF_INET6;
		mapped->sin6_port = htons(port);
		mapped->sin6_addr.s6_addr[10] = mapped->sin6_addr.s6_addr[11] = 0xff;
		memcpy(mapped->sin6_addr.s6_addr + 12, &address, 4);
		return sizeof *mapped;
	}
	struct sockaddr_in *plain = (struct sockaddr_in *)out;
	plain->sin_family = AF_INET;
	plain->sin_port = htons(port);
	plain->sin_addr.s_addr = address;
	return sizeof *plain;
}

/* A restored socket is still bound to its port, and cannot be bound twice. */
static bool is_bound(int fd)
{
	struct sockaddr_storage at = { 0 };
	socklen_t length = sizeof at;
	if (getsockname(fd, (struct sockaddr *)&at, &length) != 0)
		return false;
	return at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port != 0 :
					  ((struct sockaddr_in *)&at)->sin_port != 0;
}

static int set_sequence(int fd, int queue, uint32_t sequence)
{
	if (socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) != 0)
		return -1;
	return socket_option_set(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)sequence);
}

static int connect_silently(int fd, const struct plan *plan)
{
	struct sockaddr_storage at;
	int domain;
	socklen_t length = sizeof domain;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0)
		return -1;
	length = make_address(domain, plan->tuple.local, plan->tuple.local_port, &at);
	if (!is_bound(fd) && bind(fd, (struct sockaddr *)&at, length) != 0)
		return -1;
	length = make_address(domain, plan->tuple.remote, plan->tuple.remote_port, &at);
	return connect(fd, (struct sockaddr *)&at, length);
}

/*
 * The size of segments is worked out when a socket connects, from 536 bytes; what repair mode says of the remote side's
 * size comes later and is not looked at again. Setting IP options makes the kernel look; they are set to what they are.
 */
static int renew_segment_size(int fd)
{
	uint8_t options[40];
	socklen_t length = sizeof options;
	if (getsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, &length) != 0)
		return -1;
	return setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, length);
}

static int set_terms(int fd, const struct plan *plan)
{
	struct repair_option options[4];
	socklen_t count = 0;
	options[count++] = (struct repair_option){ OPTION_MSS, plan->mss };
	if (plan->wscale)
		options[count++] = (struct repair_option){ OPTION_WSCALE,
			plan->send_wscale | (uint32_t)plan->receive_wscale << 16 };
	if (plan->sack)
		options[count++] = (struct repair_option){ OPTION_SACK_PERMITTED, 0 };
	if (plan->timestamps)
		options[count++] = (struct repair_option){ OPTION_TIMESTAMPS, 0 };
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, count * (socklen_t)sizeof *options) != 0 ||
	    renew_segment_size(fd) != 0)
		return -1;
	return plan->timestamps ? socket_option_set(fd, IPPROTO_TCP, TCP_TIMESTAMP, (int)plan->tsval) : 0;
}

/* A buffer that takes `bytes` at once whatever its limit; put back as it was afterwards. */
struct buffer {
	int name, force_name;
	int bytes, lock;
	bool grown;
};

static int buffer_grow(int fd, struct buffer *buffer, size_t bytes)
{
	socklen_t length = sizeof buffer->bytes, lock_length = sizeof buffer->lock;
	buffer->grown = false;
	if (bytes == 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, buffer->name, &buffer->bytes, &length) != 0)
		return -1;
	if (bytes * BUFFER_FACTOR + BUFFER_SPARE_BYTES <= (size_t)buffer->bytes)
		return 0;
	/* Kernels before 5.14 do not tell: their limits stay as grown. */
	if (getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &buffer->lock, &lock_length) != 0)
		buffer->lock = -1;
	buffer->grown = true;
	size_t wanted = bytes * BUFFER_FACTOR + BUFFER_SPARE_BYTES;
	return socket_option_set(fd, SOL_SOCKET, buffer->force_name, wanted > INT32_MAX / 4 ? INT32_MAX / 4 : (int)wanted);
}

static int buffer_restore(int fd, const struct buffer *buffer)
{
	if (!buffer->grown || buffer->lock < 0)
		return 0;
	/* The kernel doubles what it is given. */
	if (socket_option_set(fd, SOL_SOCKET, buffer->force_name, buffer->bytes / 2) != 0)
		return -1;
	return socket_option_set(fd, SOL_SOCKET, SO_BUF_LOCK, buffer->lock);
}

static int send_all(int fd, const uint8_t *bytes, size_t length, size_t step, int flags)
{
	while (length > 0) {
		ssize_t sent = send(fd, bytes, length < step ? length : step, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -1;
		bytes += sent;
		length -= (size_t)sent;
	}
	return 0;
}

static int put_unread(int fd, const struct plan *plan)
{
	if (plan->unread_bytes == 0)
		return 0;
	if (socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE) != 0)
		return -1;
	return send_all(fd, plan->unread, plan->unread_bytes, QUEUE_STEP_BYTES, 0);
}

static int set_windows(int fd, const struct plan *plan)
{
	struct tcp_repair_window window;
	socklen_t length = sizeof window;
	if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &length) != 0)
		return -1;
	window.snd_wl1 = plan->send_window_sequence;
	if (sequence_after(window.snd_wl1, plan->receive_next))
		window.snd_wl1 = plan->receive_next;
	window.snd_wnd = plan->send_window;
	window.max_window = plan->send_window_max > plan->send_window ? plan->send_window_max : plan->send_window;
	window.rcv_wup = plan->receive_next;
	if (plan->receive_window > window.rcv_wnd)
		window.rcv_wnd = plan->receive_window;
	return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window);
}

/* Of the output (the checkpoint's, then the replay's) the bytes [from, to). */
static int send_range(int fd, const struct plan *plan, const uint8_t *output, size_t from, size_t to, size_t step)
{
	size_t old = plan->old_output_bytes, old_to = to < old ? to : old;
	if (from < old_to &&
	    send_all(fd, plan->old_output + from, old_to - from, step, to > old && step == SIZE_MAX ? MSG_MORE : 0) != 0)
		return -1;
	if (from < old)
		from = old;
	return from < to ? send_all(fd, output + (from - old), to - from, step, 0) : 0;
}

/*
 * How much of the output is to be restored as sent. None if all that may have been sent goes out at once now, as the
 * initial congestion window and the remote side's window allow: sent again the ordinary way it is there at once. Of more
 * than that the kernel would send only the beginning; and if the remote side has more than the beginning, it acknowledges
 * what this kernel believes to be unsent, which is ignored, for ever. What was sent is not more than the widest window
 * ever offered (the last one is no bound: a receiver short of memory takes its window back).
 *
 * If the window allows, the last segment is not restored as sent, so that it is what the kernel probes for loss with: its
 * selective acknowledgement shows all the others lost, or its acknowledgement shows that none is. (The answer to a segment
 * that was sent before is not trusted when it comes sooner than the least round trip known, here a millisecond.)
 */
static size_t sent_bytes(const struct plan *plan)
{
	size_t all = plan->old_output_bytes + plan->output_bytes, window = plan->send_window;
	size_t widest = plan->send_window_max > window ? plan->send_window_max : window;
	size_t sent = all < widest ? all : widest;
	unsigned options = plan->timestamps ? 12 : 0;
	size_t segment = plan->mss > options + 1 ? plan->mss - options : 1;
	if (plan->reset || (sent <= INITIAL_SEGMENTS * segment && sent <= window))
		return 0;
	return sent <= window ? sent - segment : sent;
}

static int put_sent(int fd, const struct plan *plan, const uint8_t *output, size_t sent)
{
	static const uint8_t acknowledged_byte = 0;
	if (sent == 0)
		return 0;
	if (socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) != 0 ||
	    send_all(fd, &acknowledged_byte, 1, 1, 0) != 0 || send_range(fd, plan, output, 0, sent, QUEUE_STEP_BYTES) != 0)
		return -1;
	return 0;
}

/* In repair mode, from closed to established. */
static int establish(int fd, const struct plan *plan, const uint8_t *output, size_t sent, const char **step)
{
	struct buffer receive = { .name = SO_RCVBUF, .force_name = SO_RCVBUFFORCE };
	*step = "sequence";
	if (set_sequence(fd, TCP_RECV_QUEUE, plan->receive_next - (uint32_t)plan->unread_bytes) != 0 ||
	    set_sequence(fd, TCP_SEND_QUEUE, plan->send_next - (sent > 0 ? 1 : 0)) != 0)
		return -1;
	*step = "connect";
	if (connect_silently(fd, plan) != 0)
		return -1;
	*step = "options";
	if (set_terms(fd, plan) != 0)
		return -1;
	*step = "unread";
	if (buffer_grow(fd, &receive, plan->unread_bytes) != 0 || put_unread(fd, plan) != 0 ||
	    buffer_restore(fd, &receive) != 0)
		return -1;
	*step = "window";
	if (set_windows(fd, plan) != 0)
		return -1;
	*step = "sent";
	if (put_sent(fd, plan, output, sent) != 0)
		return -1;
	*step = "leave";
	return socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
}

/*
 * What the remote side has done and repair mode cannot say: reset, FIN. Or what makes the kernel go on at once: the
 * acknowledgement of the byte before those restored as sent (a true one) is a measured round trip, so the kernel probes
 * for loss within milliseconds instead of the first time-out's second. Or a probe that makes it acknowledge its input.
 */
static int inject_rest(const struct plan *plan, int raw, size_t sent)
{
	struct injection injection = { .tuple = plan->tuple, .sequence = plan->receive_next, .acknowledged = plan->send_next,
				       .flags = SEGMENT_ACK, .timestamps = plan->timestamps, .tsval = plan->remote_tsval,
				       .tsecr = plan->tsval };
	uint32_t window = plan->send_window >> plan->send_wscale;
	injection.window = window > UINT16_MAX ? UINT16_MAX : (uint16_t)window;
	if (plan->reset) {
		injection.flags |= SEGMENT_RST;
		return inject_send(raw, &injection);
	}
	if (sent > 0 && inject_send(raw, &injection) != 0)
		return -1;
	if (plan->remote_fin) {
		injection.flags |= SEGMENT_FIN;
		return inject_send(raw, &injection);
	}
	/* The form of a keep-alive probe: one before what is expected. It is answered at once. */
	injection.sequence--;
	return plan->acknowledge ? inject_send(raw, &injection) : 0;
}

static int shut(int fd, const struct plan *plan)
{
	/* After a reset there is nothing left to shut. */
	if (plan->shut_read && shutdown(fd, SHUT_RD) != 0 && errno != ENOTCONN)
		return -1;
	if (plan->shut_write && shutdown(fd, SHUT_WR) != 0 && errno != ENOTCONN)
		return -1;
	return 0;
}

static int rebuild_steps(int fd, const struct plan *plan, const uint8_t *output, int raw, int reuse, const char **step)
{
	struct buffer buffer = { .name = SO_SNDBUF, .force_name = SO_SNDBUFFORCE };
	size_t all = plan->old_output_bytes + plan->output_bytes, sent = sent_bytes(plan);
	*step = "disconnect";
	if (socket_disconnect(fd) != 0)
		return -1;
	*step = "buffer";
	if (buffer_grow(fd, &buffer, all) != 0 || establish(fd, plan, output, sent, step) != 0)
		return -1;
	*step = "reuse";
	if (socket_option_set(fd, SOL_SOCKET, SO_REUSEADDR, reuse) != 0)
		return -1;
	*step = "send";
	if (!plan->reset && send_range(fd, plan, output, sent, all, SIZE_MAX) != 0)
		return -1;
	*step = "inject";
	if (inject_rest(plan, raw, sent) != 0)
		return -1;
	*step = "shut";
	return shut(fd, plan) != 0 || buffer_restore(fd, &buffer) != 0 ? -1 : 0;
}

int rebuild(int fd, const struct plan *plan, const uint8_t *output, int raw, int reuse, const char **step)
{
	if (rebuild_steps(fd, plan, output, raw, reuse, step) == 0)
		return 0;
	int error = errno;
	(void)socket_disconnect(fd); /* silently; what else could be done? */
	errno = error;
	return -1;
}
