#include "live/take.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "live/message.h"

_Static_assert(sizeof((struct live *)0)->port / sizeof(uint16_t) == HANDOVER_STAND_INS_MAX, "room for every stand-in");

static int reach(const char *name, int timeout_ms)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t length = strlen(name);
	if (length > HANDOVER_NAME_BYTES_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(at.sun_path + 1, name, length); /* abstract: begins with a NUL */
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (message_limit(fd, timeout_ms) == 0 &&
	    connect(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int send_plain(int socket, enum handover_kind kind)
{
	struct handover_message message;
	message_begin(&message, kind);
	return message_send(socket, &message, NULL, 0, -1);
}

static int say_claim(int socket, const struct live_claim *claim, uint32_t number)
{
	struct handover_message message;
	message_begin(&message, HANDOVER_CLAIM);
	message.claim = number;
	message.flags = (claim->since_checkpoint ? HANDOVER_SINCE_CHECKPOINT : 0u) |
			(claim->shut_read ? HANDOVER_SHUT_READ : 0u) | (claim->shut_write ? HANDOVER_SHUT_WRITE : 0u) |
			(claim->closed ? HANDOVER_CLOSED : 0u) | (claim->aborted ? HANDOVER_ABORTED : 0u);
	if (claim->remote.sin_family == AF_INET) {
		message.flags |= HANDOVER_TUPLE;
		message.local = claim->local.sin_addr.s_addr;
		message.remote = claim->remote.sin_addr.s_addr;
		message.local_port = ntohs(claim->local.sin_port);
		message.remote_port = ntohs(claim->remote.sin_port);
	}
	message.read_bytes = claim->read_bytes;
	message.written_bytes = claim->written_bytes;
	return message_send(socket, &message, NULL, 0, claim->descriptor);
}

static int hear_needs(int socket, struct live_claim *claims, uint32_t count)
{
	for (;;) {
		struct handover_message message;
		int fd;
		if (message_receive(socket, &message, NULL, 0, NULL, &fd) != 0)
			return -1;
		if (message.kind == HANDOVER_END)
			return 0;
		if (message.kind != HANDOVER_NEED || message.claim >= count || fd >= 0) {
			if (fd >= 0)
				close(fd);
			errno = EPROTO;
			return -1;
		}
		claims[message.claim].output_from = message.from;
		claims[message.claim].output_bytes = message.bytes;
	}
}

/* What is not kept any more is left out: ftlive then says of that connection that it cannot go on. */
static int say_output(int socket, const struct live_claim *claim, uint32_t number, live_output *output, void *context)
{
	char room[HANDOVER_OUTPUT_BYTES];
	struct handover_message message;
	message_begin(&message, HANDOVER_OUTPUT);
	message.claim = number;
	uint64_t end = claim->output_from + claim->output_bytes;
	for (uint64_t at = claim->output_from; at < end; at += message.bytes) {
		message.from = at;
		message.bytes = end - at < sizeof room ? end - at : sizeof room;
		if (!output(context, number, at, room, (size_t)message.bytes))
			return 0;
		if (message_send(socket, &message, room, (size_t)message.bytes, -1) != 0)
			return -1;
	}
	return 0;
}

/* Takes the place of `old` for every use of that number; what is of the number and the open file is kept. */
static int replace(int old, int fd)
{
	int flags = fcntl(old, F_GETFD), status = fcntl(old, F_GETFL);
	if (flags < 0 || status < 0 || fcntl(fd, F_SETFL, status) != 0)
		return -1;
	return dup3(fd, old, (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0) < 0 ? -1 : 0;
}

static int take_result(struct live_claim *claim, const struct handover_message *message, int fd)
{
	claim->verdict = message->verdict;
	claim->error = (int)message->error;
	if (fd < 0)
		return 0;
	int result = claim->descriptor >= 0 ? replace(claim->descriptor, fd) : 0;
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static int hear_results(struct live *live, struct live_claim *claims, uint32_t count)
{
	for (;;) {
		struct handover_message message;
		int fd, result = -1;
		if (message_receive(live->socket, &message, NULL, 0, NULL, &fd) != 0)
			return -1;
		if (message.kind == HANDOVER_END && fd < 0)
			return 0;
		errno = EPROTO;
		if (message.kind == HANDOVER_RESULT && message.claim < count) {
			result = take_result(&claims[message.claim], &message, fd);
			fd = -1;
		} else if (message.kind == HANDOVER_STAND_IN && live->stand_ins < HANDOVER_STAND_INS_MAX) {
			live->port[live->stand_ins++] = message.remote_port;
			result = 0;
		}
		if (fd >= 0)
			close(fd);
		if (result != 0)
			return -1;
	}
}

static int say_hello(int socket, uint32_t processes)
{
	struct handover_message message;
	message_begin(&message, HANDOVER_HELLO);
	message.claim = processes;
	return message_send(socket, &message, NULL, 0, -1);
}

static int converse(struct live *live, struct live_claim *claims, uint32_t count, live_output *output, void *context)
{
	for (uint32_t i = 0; i < count; i++) {
		claims[i].verdict = HANDOVER_FAILED;
		claims[i].error = ECANCELED;
		claims[i].output_bytes = 0;
		if (say_claim(live->socket, &claims[i], i) != 0)
			return -1;
	}
	if (send_plain(live->socket, HANDOVER_END) != 0 || hear_needs(live->socket, claims, count) != 0)
		return -1;
	for (uint32_t i = 0; i < count; i++)
		if (say_output(live->socket, &claims[i], i, output, context) != 0)
			return -1;
	if (send_plain(live->socket, HANDOVER_END) != 0)
		return -1;
	return hear_results(live, claims, count);
}

void live_end(struct live *live)
{
	if (live->socket >= 0)
		close(live->socket);
	live->socket = -1;
	live->stand_ins = 0;
}

int live_take(struct live *live, const char *name, uint32_t processes, struct live_claim *claims, uint32_t count,
	      live_output *output, void *context, int timeout_ms)
{
	live->stand_ins = 0;
	live->socket = reach(name, timeout_ms);
	if (live->socket < 0)
		return -1;
	int result = say_hello(live->socket, processes);
	if (result == 0)
		result = converse(live, claims, count, output, context);
	int error = errno;
	if (result != 0 || live->stand_ins == 0)
		live_end(live);
	errno = error;
	return result;
}

/* An address of IPv4, also when it is written as one of IPv6. */
static bool plain_address(const struct sockaddr_storage *from, struct sockaddr_in *out)
{
	const struct sockaddr_in6 *mapped = (const struct sockaddr_in6 *)from;
	*out = (struct sockaddr_in){ .sin_family = AF_INET };
	if (from->ss_family == AF_INET) {
		memcpy(out, from, sizeof *out);
		return true;
	}
	if (from->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&mapped->sin6_addr))
		return false;
	memcpy(&out->sin_addr, mapped->sin6_addr.s6_addr + 12, 4);
	out->sin_port = mapped->sin6_port;
	return true;
}

/* Which stand-in this is; its remote address is one of this network namespace, its port was told. */
static uint32_t find_stand_in(const struct live *live, int fd)
{
	struct sockaddr_storage ends[2] = { 0 };
	struct sockaddr_in local, remote;
	socklen_t local_length = sizeof ends[0], remote_length = sizeof ends[1];
	if (getsockname(fd, (struct sockaddr *)&ends[0], &local_length) != 0 ||
	    getpeername(fd, (struct sockaddr *)&ends[1], &remote_length) != 0 || !plain_address(&ends[0], &local) ||
	    !plain_address(&ends[1], &remote) || remote.sin_addr.s_addr != local.sin_addr.s_addr)
		return live->stand_ins;
	uint32_t i = 0;
	while (i < live->stand_ins && live->port[i] != ntohs(remote.sin_port))
		i++;
	return i;
}

/* What an accepted socket inherits from the listening one; the stand-in did. Sizes of buffers are the kernel's to grow. */
static void inherit(int from, int to)
{
	static const struct { int level, name; } options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE }, { SOL_SOCKET, SO_LINGER }, { SOL_SOCKET, SO_OOBINLINE }, { SOL_SOCKET, SO_PRIORITY },
		{ SOL_SOCKET, SO_RCVLOWAT }, { SOL_SOCKET, SO_RCVTIMEO }, { SOL_SOCKET, SO_SNDTIMEO },
		{ IPPROTO_TCP, TCP_NODELAY }, { IPPROTO_TCP, TCP_KEEPIDLE }, { IPPROTO_TCP, TCP_KEEPINTVL },
		{ IPPROTO_TCP, TCP_KEEPCNT }, { IPPROTO_TCP, TCP_USER_TIMEOUT }, { IPPROTO_IP, IP_TOS },
	};
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		char value[32];
		socklen_t length = sizeof value;
		/* One that this kernel does not know is not inherited either. */
		if (getsockopt(from, options[i].level, options[i].name, value, &length) == 0)
			(void)setsockopt(to, options[i].level, options[i].name, value, length);
	}
}

int live_accepted(struct live *live, int fd, struct sockaddr_in *remote)
{
	if (live->stand_ins == 0)
		return 0;
	uint32_t found = find_stand_in(live, fd);
	if (found == live->stand_ins)
		return 0;
	struct handover_message message;
	int given = -1, result = -1;
	message_begin(&message, HANDOVER_TAKE);
	message.remote_port = live->port[found];
	live->port[found] = live->port[--live->stand_ins];
	if (message_send(live->socket, &message, NULL, 0, -1) == 0 &&
	    message_receive(live->socket, &message, NULL, 0, NULL, &given) == 0 && message.kind == HANDOVER_GIVEN &&
	    given >= 0 && (inherit(fd, given), replace(fd, given) == 0)) {
		*remote = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = message.remote,
						.sin_port = htons(message.remote_port) };
		result = 1;
	}
	if (given >= 0)
		close(given);
	if (live->stand_ins == 0)
		live_end(live);
	return result;
}
