/*
 * Making and asking sockets. In a replay an external socket is a placeholder under the number that it had; only the log
 * knows the peer.
 */
#include "recorder/connections.h"
#include "recorder/real.h"

#include <netinet/in.h>
#include <sys/syscall.h>

enum { ADDRESS_BYTES_MAX = 128 };

static void external(int fd, int domain)
{
	ft_descriptor_set(fd, FT_SOCKET);
	ft_descriptor(fd)->domain = domain;
}

/*
 * A socket of the right kind: what the application does to it (options, dup, fork) is done for real and stays, when it
 * becomes the client's connection.
 */
static void external_again(int fd, int domain, int type)
{
	int place = -1;
	if (ft_connections_wanted() && (type & 15) == SOCK_STREAM && (domain == AF_INET || domain == AF_INET6))
		place = REAL(socket)(AF_INET, type, 0);
	if (place < 0)
		ft_place(fd);
	ft_move(place, fd);
	external(fd, domain);
	ft_descriptor(fd)->placeholder = true;
}

FT_PUBLIC int socket(int domain, int type, int protocol)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(socket)(domain, type, protocol);
		if (mode == LOG_MODE_RECORD) {
			int fd = REAL(socket)(domain, type, protocol), error = errno;
			if (ft_put_turn(LOG_SOCKET, (uint32_t)domain, fd, error, LOG_OBJECT_DESCRIPTORS, NULL, 0)) {
				if (fd >= 0)
					external(fd, domain);
				errno = error;
				return fd;
			}
			if (fd >= 0)
				REAL(close)(fd);
			continue;
		}
		const struct log_event *e = ft_take(LOG_SOCKET, (uint32_t)domain);
		if (e == NULL)
			continue;
		if (e->call.result >= 0)
			external_again(e->call.result, domain, type);
		return (int)ft_result(e);
	}
}

static void answer_address(const struct log_event *e, struct sockaddr *address, socklen_t *bytes)
{
	if (address == NULL || bytes == NULL || e->payload_bytes < 8)
		return;
	uint32_t length;
	memcpy(&length, e->payload, 4);
	if (length > e->payload_bytes - 8)
		ft_corrupt("an address that is longer than its record");
	memcpy(address, e->payload + 8, length < *bytes ? length : *bytes);
	*bytes = length;
}

struct named {
	uint32_t bytes, local_bytes; /* of an accepted connection: this end's address follows the other's */
	uint8_t address[2 * ADDRESS_BYTES_MAX];
};

static size_t name_of(struct named *named, const void *address, const socklen_t *bytes)
{
	if (address == NULL || bytes == NULL)
		return 0;
	named->local_bytes = 0;
	named->bytes = *bytes < ADDRESS_BYTES_MAX ? *bytes : ADDRESS_BYTES_MAX;
	memcpy(named->address, address, named->bytes);
	return 8 + named->bytes;
}

/* Both ends, also if the application does not ask: the connection is made again from them. */
static size_t name_accepted(struct named *named, int fd, const struct sockaddr_storage *remote, socklen_t remote_bytes)
{
	struct sockaddr_storage local;
	socklen_t bytes = sizeof local;
	size_t size = name_of(named, remote, &remote_bytes);
	if (REAL(getsockname)(fd, (struct sockaddr *)&local, &bytes) != 0 || bytes > ADDRESS_BYTES_MAX)
		return size;
	memcpy(named->address + named->bytes, &local, bytes);
	named->local_bytes = bytes;
	return size + bytes;
}

static void accepted_again(int fd, const struct log_event *e)
{
	struct named named;
	if (e->payload_bytes < 8 || e->payload_bytes > sizeof named)
		return;
	memcpy(&named, e->payload, e->payload_bytes);
	if (8 + (uint64_t)named.bytes + named.local_bytes <= e->payload_bytes)
		ft_connection_accepted(fd, named.address, named.bytes, named.address + named.bytes, named.local_bytes);
}

static void tell_address(const struct sockaddr_storage *from, socklen_t from_bytes, struct sockaddr *address, socklen_t *bytes)
{
	if (address == NULL || bytes == NULL)
		return;
	memcpy(address, from, from_bytes < *bytes ? from_bytes : *bytes);
	*bytes = from_bytes;
}

/* The real call. A stand-in (native/live) becomes the client's connection; one whose client is gone is passed over. */
static int accept_one(int fd, struct sockaddr_storage *from, socklen_t *from_bytes, int flags)
{
	for (;;) {
		struct sockaddr_in client;
		*from_bytes = sizeof *from;
		int result = REAL(accept4)(fd, (struct sockaddr *)from, from_bytes, flags), error = errno;
		struct ft_thread *me = ft_me;
		ft_me = NULL;
		int stand_in = result < 0 ? 0 : ft_connection_stand_in(result, &client);
		ft_me = me;
		if (stand_in > 0) {
			memcpy(from, &client, sizeof client);
			*from_bytes = sizeof client;
		}
		if (stand_in >= 0) {
			errno = error;
			return result;
		}
		REAL(close)(result);
	}
}

/*
 * Of a listener that several processes have: what they do with memory that they share between their accept and their next
 * call (nginx counts its connections there) happens in the order of their turns.
 */
static void take_turn(int fd)
{
	uint32_t object = ft_descriptor(fd)->channel;
	if (likely(object < FT_OWN_OBJECTS))
		return;
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return;
		if (mode == LOG_MODE_RECORD) {
			ft_turn_begin(object);
			bool done = ft_put_turn(LOG_TURN_CALL, (uint32_t)fd, 0, 0, object, NULL, 0);
			if (!done)
				ft_turn_end(object);
			if (done)
				break;
			continue;
		}
		const struct log_event *e = ft_take(LOG_TURN_CALL, (uint32_t)fd);
		if (e == NULL)
			continue;
		ft_turn_begin(object);
		ft_done(e);
		break;
	}
	ft_turn_keep(ft_me);
}

static int accepted(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	if (unlikely(ft_is_outside) && ft_is_external(fd))
		ft_outside_serves();
	if (ft_me == NULL || !ft_is_external(fd))
		return REAL(accept4)(fd, address, bytes, flags);
	FT_CALL {
		struct sockaddr_storage from;
		socklen_t from_bytes;
		if (mode == LOG_MODE_LIVE) {
			int result = accept_one(fd, &from, &from_bytes, flags);
			if (result >= 0)
				tell_address(&from, from_bytes, address, bytes);
			if (result >= 0)
				external(result, ft_descriptor(fd)->domain);
			return result;
		}
		if (mode == LOG_MODE_RECORD) {
			struct named named;
			ft_real_begin();
			int result = accept_one(fd, &from, &from_bytes, flags), error = errno;
			ft_real_end();
			if (ft_put_turn(LOG_ACCEPT, (uint32_t)fd, result, error, LOG_OBJECT_DESCRIPTORS, &named,
			                result >= 0 ? name_accepted(&named, result, &from, from_bytes) : 0)) {
				if (result >= 0) {
					external(result, ft_descriptor(fd)->domain);
					tell_address(&from, from_bytes, address, bytes);
					take_turn(fd);
				}
				errno = error;
				return result;
			}
			if (result >= 0)
				REAL(close)(result);
			continue;
		}
		const struct log_event *e = ft_take(LOG_ACCEPT, (uint32_t)fd);
		if (e == NULL)
			continue;
		if (e->call.result >= 0) {
			external_again(e->call.result, ft_descriptor(fd)->domain, SOCK_STREAM | flags);
			accepted_again(e->call.result, e);
			answer_address(e, address, bytes);
		}
		int result = (int)ft_result(e), error = errno;
		if (result >= 0)
			take_turn(fd);
		errno = error;
		return result;
	}
}

FT_PUBLIC int accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	return accepted(fd, address, bytes, flags);
}

FT_PUBLIC int accept(int fd, struct sockaddr *address, socklen_t *bytes)
{
	return accepted(fd, address, bytes, 0);
}

/* A call that only answers a number; made by `call`, which may block. */
#define PLAIN_CALL(fd, expression) \
	do { \
		if (ft_me == NULL || !ft_is_external(fd)) \
			return expression; \
		FT_CALL { \
			if (mode == LOG_MODE_LIVE) \
				return expression; \
			if (mode == LOG_MODE_RECORD) { \
				ft_real_begin(); \
				int result = expression, error = errno; \
				ft_real_end(); \
				if (ft_put_call(LOG_SOCKET_CALL, (uint32_t)fd, result, error, NULL, 0)) { \
					errno = error; \
					return result; \
				} \
				continue; \
			} \
			const struct log_event *e = ft_take(LOG_SOCKET_CALL, (uint32_t)fd); \
			if (e != NULL) \
				return (int)ft_result(e); \
		} \
	} while (0)

FT_PUBLIC int bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	if (ft_me != NULL && d->kind == FT_SOCKET && bytes <= sizeof d->address) {
		memcpy(d->address, address, bytes);
		d->address_bytes = bytes;
	}
	PLAIN_CALL(fd, REAL(bind)(fd, address, bytes));
}

FT_PUBLIC int listen(int fd, int backlog)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	if (ft_me != NULL && d->kind == FT_SOCKET) {
		d->kind = FT_LISTENER;
		d->backlog = backlog;
		/* What stands for it becomes the listener when the log has ended, for all processes that have inherited it. */
		if (d->placeholder)
			ft_move(REAL(socket)(d->domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), fd);
	}
	PLAIN_CALL(fd, REAL(listen)(fd, backlog));
}

FT_PUBLIC int connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
	PLAIN_CALL(fd, REAL(connect)(fd, address, bytes));
}

FT_PUBLIC int shutdown(int fd, int how)
{
	if (ft_me != NULL && ft_mode_word() == LOG_MODE_REPLAY)
		ft_connection_shut(fd, how);
	PLAIN_CALL(fd, REAL(shutdown)(fd, how));
}

FT_PUBLIC int setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
	/* The socket that is there becomes the connection again, with what is set on it. */
	if (ft_me != NULL && ft_kind_of(fd) == FT_SOCKET && ft_mode_word() == LOG_MODE_REPLAY) {
		ft_connection_option(fd, level, name, value, bytes);
		(void)REAL(setsockopt)(fd, level, name, value, bytes);
	}
	PLAIN_CALL(fd, REAL(setsockopt)(fd, level, name, value, bytes));
}

static int asked(uint8_t kind, int fd, struct sockaddr *address, socklen_t *bytes, int (*call)(int, struct sockaddr *, socklen_t *))
{
	if (ft_me == NULL || !ft_is_external(fd))
		return call(fd, address, bytes);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return call(fd, address, bytes);
		if (mode == LOG_MODE_RECORD) {
			struct named named;
			socklen_t room = *bytes;
			int result = call(fd, address, bytes), error = errno;
			if (ft_put_call(kind, (uint32_t)fd, result, error, &named, result == 0 ? name_of(&named, address, bytes) : 0)) {
				errno = error;
				return result;
			}
			*bytes = room;
			continue;
		}
		const struct log_event *e = ft_take(kind, (uint32_t)fd);
		if (e == NULL)
			continue;
		answer_address(e, address, bytes);
		return (int)ft_result(e);
	}
}

FT_PUBLIC int getsockname(int fd, struct sockaddr *address, socklen_t *bytes)
{
	return asked(LOG_SOCKET_NAME, fd, address, bytes, REAL(getsockname));
}

FT_PUBLIC int getpeername(int fd, struct sockaddr *address, socklen_t *bytes)
{
	return asked(LOG_SOCKET_NAME, fd, address, bytes, REAL(getpeername));
}

static __thread struct { int level, name; } option FT_TLS;
static int option_call(int fd, struct sockaddr *value, socklen_t *bytes)
{
	return REAL(getsockopt)(fd, option.level, option.name, value, bytes);
}

FT_PUBLIC int getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
	option.level = level;
	option.name = name;
	return asked(LOG_SOCKET_OPTION, fd, value, bytes, option_call);
}
