/*
 * Messages through channels, with descriptors. One that carries descriptors is really sent and received in a replay too; the
 * descriptors get the numbers that they had. What they are is not known to who gets them (FT_PASSED).
 */
#include "recorder/streams.h"

#include <sys/syscall.h>
#include <unistd.h>

enum { PASSED_MAX = 16, CONTROL_BYTES = 1024, SETTLE_TRIES = 20000, PARTS_MAX = 60 };

struct passing_head {
	uint32_t control_bytes, data_bytes;
	int32_t flags;
	uint32_t passed; /* descriptors in the control data */
};

struct passed {
	int fd[PASSED_MAX];
	uint32_t count;
};

static struct passed passed_by(const struct msghdr *message)
{
	struct passed all = {.count = 0};
	struct msghdr *mutable = (struct msghdr *)message;
	for (struct cmsghdr *c = message == NULL ? NULL : CMSG_FIRSTHDR(mutable); c != NULL; c = CMSG_NXTHDR(mutable, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++, all.count++)
			if (all.count < PASSED_MAX)
				memcpy(&all.fd[all.count], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	return all;
}

bool ft_passes_descriptors(const struct msghdr *message) { return message != NULL && passed_by(message).count != 0; }

void ft_passes_nothing_external(const struct msghdr *message)
{
	struct passed all = passed_by(message);
	for (uint32_t i = 0; i < all.count && i < PASSED_MAX; i++)
		if (ft_is_external(all.fd[i]) || ft_kind_of(all.fd[i]) == FT_EPOLL)
			ft_lost(LOG_LOSS_DESCRIPTOR);
}

/* The reader takes it when it comes to it: there is room then. */
void ft_send_again(int fd, const struct msghdr *message, int flags)
{
	struct timespec nap = {0, 50000};
	for (int tries = 0; tries < SETTLE_TRIES; tries++) {
		if (ft_backlog_is_empty(fd) &&
		    (REAL(sendmsg)(fd, message, flags | MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || (errno != EAGAIN && errno != EINTR)))
			return;
		ft_syscall(SYS_nanosleep, &nap, NULL);
	}
}

static void note(const struct passed *p)
{
	for (uint32_t i = 0; i < p->count && i < PASSED_MAX; i++)
		ft_descriptor_set(p->fd[i], FT_PASSED);
	if (p->count > PASSED_MAX)
		ft_lost(LOG_LOSS_DESCRIPTOR);
}

/* Replay: the real message, behind what the log says was read before. The writer is on its way. */
static struct passed receive_again(int fd, size_t bytes)
{
	static uint8_t scrap[FT_INPUT_BYTES_MAX];
	uint8_t control[CONTROL_BYTES];
	struct timespec nap = {0, 50000};
	struct iovec vector = {scrap, bytes < sizeof scrap ? bytes : sizeof scrap};
	for (int tries = 0; tries < SETTLE_TRIES; tries++) {
		struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		ft_channel_drain(fd);
		if (ft_descriptor(fd)->debt <= 0 && REAL(recvmsg)(fd, &message, MSG_DONTWAIT) >= 0)
			return passed_by(&message);
		ft_syscall(SYS_nanosleep, &nap, NULL);
	}
	return (struct passed){.count = 0};
}

static void put_at_their_numbers(const struct passed *logged, const struct passed *real)
{
	for (uint32_t i = 0; i < logged->count && i < PASSED_MAX; i++) {
		if (i >= real->count)
			ft_place(logged->fd[i]);
		else if (real->fd[i] != logged->fd[i])
			ft_move(real->fd[i], logged->fd[i]);
	}
	note(logged);
}

static long receive_from_log(int fd, struct msghdr *message, const struct log_event *e, const struct passed *have)
{
	struct passing_head head = {0};
	const uint8_t *at = e->payload + sizeof head;
	if (e->call.result >= 0 && e->payload_bytes >= sizeof head)
		memcpy(&head, e->payload, sizeof head);
	if (e->call.result >= 0 && sizeof head + (uint64_t)head.control_bytes + head.data_bytes > e->payload_bytes)
		ft_corrupt("a message that is longer than its record");
	if (e->call.result >= 0) {
		size_t room = message->msg_control == NULL ? 0 : message->msg_controllen;
		memcpy(message->msg_control, at, head.control_bytes < room ? head.control_bytes : room);
		message->msg_controllen = head.control_bytes;
		message->msg_flags = head.flags;
		ft_vector_spread(message->msg_iov, (int)message->msg_iovlen, at + head.control_bytes, head.data_bytes);
		struct passed logged = passed_by(message), real = *have;
		if (head.passed != 0 && real.count == 0)
			real = receive_again(fd, head.data_bytes);
		else if (head.passed == 0 && e->call.result > 0)
			ft_descriptor(fd)->debt += e->call.result;
		put_at_their_numbers(&logged, &real);
		ft_channel_drain(fd);
	}
	return ft_result(e);
}

static bool put_message(int fd, const struct msghdr *message, long result, int error, const struct passed *passed)
{
	struct iovec parts[PARTS_MAX + 2];
	struct passing_head head = {.passed = passed->count, .flags = message->msg_flags};
	int count = 0;
	if (result >= 0) {
		head.control_bytes = message->msg_control == NULL ? 0 : (uint32_t)message->msg_controllen;
		head.data_bytes = (uint32_t)result;
		parts[count++] = (struct iovec){&head, sizeof head};
		parts[count++] = (struct iovec){message->msg_control, head.control_bytes};
		count += ft_vector_first(message->msg_iov, (int)message->msg_iovlen < PARTS_MAX ? (int)message->msg_iovlen : PARTS_MAX,
		                         (size_t)result, parts + count);
	}
	return ft_put_turnv(LOG_CHANNEL_READ, (uint32_t)fd, result, error, ft_descriptor(fd)->channel, parts, count);
}

/* Looking without taking (MSG_PEEK) is not for channels. */
long ft_channel_receive(int fd, struct msghdr *message, int flags)
{
	struct passed have = {.count = 0};
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(recvmsg)(fd, message, flags);
		if (mode == LOG_MODE_REPLAY) {
			const struct log_event *e = ft_take(LOG_CHANNEL_READ, (uint32_t)fd);
			if (e != NULL)
				return receive_from_log(fd, message, e, &have);
			continue;
		}
		struct msghdr before = *message;
		ft_real_begin();
		long result = REAL(recvmsg)(fd, message, flags);
		int error = errno;
		ft_real_end();
		struct passed passed = {.count = 0};
		if (result >= 0)
			passed = passed_by(message);
		if (put_message(fd, message, result, error, &passed)) {
			note(&passed);
			errno = error;
			return result;
		}
		*message = before;
		have = passed;
		if (result > 0)
			ft_descriptor(fd)->debt -= passed.count != 0 ? 0 : result;
	}
}
