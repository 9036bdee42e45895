/*
 * Making and asking sockets. In a replay an external socket is a placeholder under the number that it had; only the log
 * knows the peer.
 */
#include "recorder/real.h"

#include <netinet/in.h>
#include <sys/syscall.h>

enum { ADDRESS_BYTES_MAX = 128 };

static void external(int fd, int domain)
{
	ft_descriptor_set(fd, FT_SOCKET);
	ft_descriptor(fd)->domain = domain;
}

static void external_again(int fd, int domain)
{
	ft_place(fd);
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
			external_again(e->call.result, domain);
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
	uint32_t bytes, zero;
	uint8_t address[ADDRESS_BYTES_MAX];
};

static size_t name_of(struct named *named, const void *address, const socklen_t *bytes)
{
	if (address == NULL || bytes == NULL)
		return 0;
	named->zero = 0;
	named->bytes = *bytes < ADDRESS_BYTES_MAX ? *bytes : ADDRESS_BYTES_MAX;
	memcpy(named->address, address, named->bytes);
	return 8 + named->bytes;
}

static int accepted(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	if (ft_me == NULL || !ft_is_external(fd))
		return REAL(accept4)(fd, address, bytes, flags);
	FT_CALL {
		if (mode == LOG_MODE_LIVE) {
			int result = REAL(accept4)(fd, address, bytes, flags);
			if (result >= 0)
				external(result, ft_descriptor(fd)->domain);
			return result;
		}
		if (mode == LOG_MODE_RECORD) {
			struct named named;
			socklen_t room = bytes != NULL ? *bytes : 0;
			ft_real_begin();
			int result = REAL(accept4)(fd, address, bytes, flags), error = errno;
			ft_real_end();
			if (ft_put_turn(LOG_ACCEPT, (uint32_t)fd, result, error, LOG_OBJECT_DESCRIPTORS, &named,
			                result >= 0 ? name_of(&named, address, bytes) : 0)) {
				if (result >= 0)
					external(result, ft_descriptor(fd)->domain);
				errno = error;
				return result;
			}
			if (result >= 0)
				REAL(close)(result);
			if (bytes != NULL)
				*bytes = room;
			continue;
		}
		const struct log_event *e = ft_take(LOG_ACCEPT, (uint32_t)fd);
		if (e == NULL)
			continue;
		if (e->call.result >= 0) {
			external_again(e->call.result, ft_descriptor(fd)->domain);
			answer_address(e, address, bytes);
		}
		return (int)ft_result(e);
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
	}
	PLAIN_CALL(fd, REAL(listen)(fd, backlog));
}

FT_PUBLIC int connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
	PLAIN_CALL(fd, REAL(connect)(fd, address, bytes));
}

FT_PUBLIC int shutdown(int fd, int how)
{
	PLAIN_CALL(fd, REAL(shutdown)(fd, how));
}

FT_PUBLIC int setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
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
