/* Reading: what comes from outside is recorded by value; a channel's reader takes turns with its writer. */
#include "recorder/streams.h"

#include <limits.h>

static long read_real(struct transfer *r)
{
	ft_real_begin();
	long result = r->call(r);
	int error = errno;
	ft_real_end();
	errno = error;
	return result;
}

static bool put_read(const struct transfer *r, long result, int error)
{
	struct ft_descriptor *d = ft_descriptor(r->fd);
	struct iovec parts[IOV_MAX > 64 ? 64 : IOV_MAX];
	int count = result > 0 ? ft_vector_first(r->vector, r->count < 64 ? r->count : 64, (size_t)result, parts) : 0;
	if (d->kind != FT_CHANNEL)
		return ft_put_callv(LOG_READ, (uint32_t)r->fd, result, error, parts, count);
	return ft_put_turn(LOG_CHANNEL_READ, (uint32_t)r->fd, result, error, d->channel, count > 0 ? parts[0].iov_base : NULL,
	                   count > 0 ? parts[0].iov_len : 0);
}

static long transfer_in(struct transfer *r)
{
	struct ft_descriptor *d = ft_descriptor(r->fd);
	bool channel = d->kind == FT_CHANNEL;
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return r->call(r);
		if (mode == LOG_MODE_RECORD) {
			long result = read_real(r);
			int error = errno;
			if (put_read(r, result, error)) {
				errno = error;
				return result;
			}
			if (channel && result > 0 && !(r->flags & MSG_PEEK))
				d->debt -= ft_channel_worth(d, r->vector[0].iov_base, result);
			else if (result > 0 && !(r->flags & MSG_PEEK))
				ft_connection_read(r->fd, -result);
			continue;
		}
		const struct log_event *e = ft_take(channel ? LOG_CHANNEL_READ : LOG_READ, (uint32_t)r->fd);
		if (e == NULL)
			continue;
		if (e->call.result > 0) {
			ft_vector_spread(r->vector, r->count, e->payload, (size_t)e->call.result);
			if (channel && !(r->flags & MSG_PEEK)) {
				d->debt += ft_channel_worth(d, e->payload, e->call.result);
				ft_channel_drain(r->fd);
			} else if (!(r->flags & MSG_PEEK)) {
				ft_connection_read(r->fd, e->call.result);
			}
		}
		return ft_result(e);
	}
}

static long read_call(struct transfer *r) { return REAL(read)(r->fd, r->vector->iov_base, r->vector->iov_len); }
static long readv_call(struct transfer *r) { return REAL(readv)(r->fd, r->vector, r->count); }
static long recv_call(struct transfer *r) { return REAL(recv)(r->fd, r->vector->iov_base, r->vector->iov_len, r->flags); }

FT_PUBLIC ssize_t read(int fd, void *buffer, size_t bytes)
{
	if (!ft_is_recorded(fd))
		return REAL(read)(fd, buffer, bytes);
	struct iovec vector = {buffer, ft_cut(bytes)};
	struct transfer r = {.fd = fd, .vector = &vector, .count = 1, .call = read_call};
	return transfer_in(&r);
}

FT_PUBLIC ssize_t __read_chk(int fd, void *buffer, size_t bytes, size_t room)
{
	(void)room;
	return read(fd, buffer, bytes);
}

FT_PUBLIC ssize_t readv(int fd, const struct iovec *vector, int count)
{
	if (!ft_is_recorded(fd))
		return REAL(readv)(fd, vector, count);
	struct iovec parts[64];
	bool channel = ft_kind_of(fd) == FT_CHANNEL;
	struct transfer r = {.fd = fd, .vector = parts, .call = readv_call,
		.count = ft_vector_first(vector, channel ? 1 : count < 64 ? count : 64, FT_INPUT_BYTES_MAX, parts)};
	return transfer_in(&r);
}

FT_PUBLIC ssize_t recv(int fd, void *buffer, size_t bytes, int flags)
{
	if (!ft_is_recorded(fd))
		return REAL(recv)(fd, buffer, bytes, flags);
	struct iovec vector = {buffer, ft_cut(bytes)};
	struct transfer r = {.fd = fd, .vector = &vector, .count = 1, .call = recv_call, .flags = flags};
	return transfer_in(&r);
}

FT_PUBLIC ssize_t __recv_chk(int fd, void *buffer, size_t bytes, size_t room, int flags)
{
	(void)room;
	return recv(fd, buffer, bytes, flags);
}
