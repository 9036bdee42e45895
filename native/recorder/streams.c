/*
 * Reading and writing. What comes from outside is recorded by value. What goes out is recorded by length and checksum
 * *before* it is written, so that the record of an output is in every cut that is taken after the output was seen;
 * a second record follows only if the real call did not take everything. Pipes and their like take turns and are executed.
 */
#include "recorder/connections.h"
#include "recorder/real.h"

#include <limits.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- channels */

/* What the log says was read is taken out of the real channel as it arrives there, so that a writer finds room. */
void ft_channel_drain(int fd)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	char scrap[4096];
	int there = 0;
	while (d->debt > 0) {
		if (d->eventfd) {
			struct pollfd ready = {fd, POLLIN, 0};
			uint64_t value;
			if (REAL(poll)(&ready, 1, 0) != 1 || ft_syscall(SYS_read, (long)fd, &value, 8L) != 8)
				return;
			d->debt -= (int64_t)value;
			value = (uint64_t)-d->debt;
			if (d->debt < 0 && ft_syscall(SYS_write, (long)fd, &value, 8L) == 8)
				d->debt = 0;
			continue;
		}
		if (ft_syscall(SYS_ioctl, (long)fd, (long)FIONREAD, &there) != 0 || there <= 0)
			return;
		int64_t want = there < d->debt ? there : d->debt;
		long got = ft_syscall(SYS_read, (long)fd, scrap, (long)(want < (int64_t)sizeof scrap ? want : (int64_t)sizeof scrap));
		if (got <= 0)
			return;
		d->debt -= got;
	}
}

static int64_t worth(const struct ft_descriptor *d, const void *bytes, long result)
{
	int64_t value = result;
	if (d->eventfd && result == 8)
		memcpy(&value, bytes, 8);
	return result > 0 ? value : 0;
}

static bool has_room(const struct ft_thread *t, uint64_t fd)
{
	struct pollfd room = {(int)fd, POLLOUT, 0};
	(void)t;
	return REAL(poll)(&room, 1, 0) != 0;
}

static void write_again(int fd, const struct iovec *vector, int count, int64_t bytes)
{
	int64_t left = bytes;
	for (int i = 0; i < count && left > 0; i++) {
		const char *at = vector[i].iov_base;
		int64_t here = (int64_t)vector[i].iov_len < left ? (int64_t)vector[i].iov_len : left;
		left -= here;
		for (int tries = 0; here > 0 && tries < 20000; tries++) {
			ft_real_begin();
			long done = ft_syscall(SYS_write, (long)fd, at, (long)here);
			int error = errno;
			ft_real_end_quietly();
			if (done > 0) {
				at += done;
				here -= done;
			} else if (error == EAGAIN) {
				/* When the log has ended whoever reads goes on too, and makes room. */
				struct timespec nap = {0, 50000};
				if (!ft_wait_until(ft_me, has_room, (uint64_t)fd))
					ft_syscall(SYS_nanosleep, &nap, NULL);
			} else if (error != EINTR) {
				return;
			}
		}
	}
}

/* ---- a read or a write, whatever its name */

struct transfer {
	int fd;
	struct iovec *vector;
	int count;
	long (*call)(struct transfer *);
	int flags;
	struct sockaddr *address;
	socklen_t *address_bytes;
	socklen_t to_bytes;
	struct msghdr *message;
};

static size_t size_of(const struct iovec *vector, int count)
{
	size_t bytes = 0;
	for (int i = 0; i < count; i++)
		bytes += vector[i].iov_len;
	return bytes;
}

static void spread(struct iovec *vector, int count, const uint8_t *bytes, size_t left)
{
	for (int i = 0; i < count && left > 0; i++) {
		size_t here = vector[i].iov_len < left ? vector[i].iov_len : left;
		memcpy(vector[i].iov_base, bytes, here);
		bytes += here;
		left -= here;
	}
}

/* The first `bytes` of a vector, as a vector of at most IOV_MAX parts. */
static int first_of(const struct iovec *vector, int count, size_t bytes, struct iovec *out)
{
	int parts = 0;
	for (int i = 0; i < count && bytes > 0; i++) {
		out[parts] = vector[i];
		if (out[parts].iov_len > bytes)
			out[parts].iov_len = bytes;
		bytes -= out[parts++].iov_len;
	}
	return parts;
}

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
	int count = result > 0 ? first_of(r->vector, r->count < 64 ? r->count : 64, (size_t)result, parts) : 0;
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
				d->debt -= worth(d, r->vector[0].iov_base, result);
			else if (result > 0 && !(r->flags & MSG_PEEK))
				ft_connection_read(r->fd, -result);
			continue;
		}
		const struct log_event *e = ft_take(channel ? LOG_CHANNEL_READ : LOG_READ, (uint32_t)r->fd);
		if (e == NULL)
			continue;
		if (e->call.result > 0) {
			spread(r->vector, r->count, e->payload, (size_t)e->call.result);
			if (channel && !(r->flags & MSG_PEEK)) {
				d->debt += worth(d, e->payload, e->call.result);
				ft_channel_drain(r->fd);
			} else if (!(r->flags & MSG_PEEK)) {
				ft_connection_read(r->fd, e->call.result);
			}
		}
		return ft_result(e);
	}
}

static bool is_recorded(int fd)
{
	uint8_t kind = ft_kind_of(fd);
	return ft_me != NULL && (ft_is_external(fd) || kind == FT_CHANNEL);
}

static long read_call(struct transfer *r) { return REAL(read)(r->fd, r->vector->iov_base, r->vector->iov_len); }
static long readv_call(struct transfer *r) { return REAL(readv)(r->fd, r->vector, r->count); }
static long recv_call(struct transfer *r) { return REAL(recv)(r->fd, r->vector->iov_base, r->vector->iov_len, r->flags); }

/* A read of more than a record holds is cut: a short read is always allowed. */
static size_t cut(size_t bytes)
{
	return bytes < FT_INPUT_BYTES_MAX ? bytes : FT_INPUT_BYTES_MAX;
}

FT_PUBLIC ssize_t read(int fd, void *buffer, size_t bytes)
{
	if (!is_recorded(fd))
		return REAL(read)(fd, buffer, bytes);
	struct iovec vector = {buffer, cut(bytes)};
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
	if (!is_recorded(fd))
		return REAL(readv)(fd, vector, count);
	struct iovec parts[64];
	bool channel = ft_kind_of(fd) == FT_CHANNEL;
	struct transfer r = {.fd = fd, .vector = parts, .call = readv_call,
		.count = first_of(vector, channel ? 1 : count < 64 ? count : 64, FT_INPUT_BYTES_MAX, parts)};
	return transfer_in(&r);
}

FT_PUBLIC ssize_t recv(int fd, void *buffer, size_t bytes, int flags)
{
	if (!is_recorded(fd))
		return REAL(recv)(fd, buffer, bytes, flags);
	struct iovec vector = {buffer, cut(bytes)};
	struct transfer r = {.fd = fd, .vector = &vector, .count = 1, .call = recv_call, .flags = flags};
	return transfer_in(&r);
}

FT_PUBLIC ssize_t __recv_chk(int fd, void *buffer, size_t bytes, size_t room, int flags)
{
	(void)room;
	return recv(fd, buffer, bytes, flags);
}

/* ---- messages: with an address, with control data */

struct message_head {
	uint32_t address_bytes, control_bytes, data_bytes;
	int32_t flags;
};

static long receive_message(int fd, struct msghdr *message, int flags)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(recvmsg)(fd, message, flags);
		if (mode == LOG_MODE_RECORD) {
			struct msghdr before = *message;
			ft_real_begin();
			long result = REAL(recvmsg)(fd, message, flags);
			int error = errno;
			ft_real_end();
			struct message_head head = {0};
			struct iovec parts[64];
			int count = 1;
			parts[0] = (struct iovec){&head, sizeof head};
			if (result >= 0) {
				head = (struct message_head){message->msg_name == NULL ? 0 : message->msg_namelen,
					(uint32_t)message->msg_controllen, (uint32_t)result, message->msg_flags};
				if (head.address_bytes > before.msg_namelen)
					head.address_bytes = before.msg_namelen;
				parts[count++] = (struct iovec){message->msg_name, head.address_bytes};
				parts[count++] = (struct iovec){message->msg_control, head.control_bytes};
				count += first_of(message->msg_iov, message->msg_iovlen < 60 ? (int)message->msg_iovlen : 60,
				                  (size_t)result, parts + count);
			}
			if (ft_put_callv(LOG_MESSAGE, (uint32_t)fd, result, error, parts, count)) {
				errno = error;
				return result;
			}
			*message = before;
			if (result > 0 && !(flags & MSG_PEEK))
				ft_connection_read(fd, -result);
			continue;
		}
		const struct log_event *e = ft_take(LOG_MESSAGE, (uint32_t)fd);
		if (e == NULL)
			continue;
		struct message_head head;
		memcpy(&head, e->payload, sizeof head);
		const uint8_t *at = e->payload + sizeof head;
		if (sizeof head + (uint64_t)head.address_bytes + head.control_bytes + head.data_bytes > e->payload_bytes)
			ft_corrupt("a message that is longer than its record");
		if (e->call.result >= 0) {
			if (message->msg_name != NULL)
				memcpy(message->msg_name, at, head.address_bytes < message->msg_namelen ? head.address_bytes : message->msg_namelen);
			memcpy(message->msg_control, at + head.address_bytes,
			       head.control_bytes < message->msg_controllen ? head.control_bytes : message->msg_controllen);
			message->msg_namelen = head.address_bytes;
			message->msg_controllen = head.control_bytes;
			message->msg_flags = head.flags;
			if (!(flags & MSG_PEEK))
				ft_connection_read(fd, e->call.result);
			spread(message->msg_iov, (int)message->msg_iovlen, at + head.address_bytes + head.control_bytes, head.data_bytes);
		}
		return ft_result(e);
	}
}

FT_PUBLIC ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	return is_recorded(fd) && ft_is_external(fd) ? receive_message(fd, message, flags) : REAL(recvmsg)(fd, message, flags);
}

FT_PUBLIC ssize_t recvfrom(int fd, void *buffer, size_t bytes, int flags, struct sockaddr *address, socklen_t *address_bytes)
{
	if (!is_recorded(fd) || !ft_is_external(fd))
		return REAL(recvfrom)(fd, buffer, bytes, flags, address, address_bytes);
	struct iovec vector = {buffer, cut(bytes)};
	struct msghdr message = {.msg_name = address, .msg_namelen = address != NULL ? *address_bytes : 0, .msg_iov = &vector,
		.msg_iovlen = 1};
	long result = receive_message(fd, &message, flags);
	if (result >= 0 && address != NULL)
		*address_bytes = message.msg_namelen;
	return result;
}

FT_PUBLIC ssize_t __recvfrom_chk(int fd, void *buffer, size_t bytes, size_t room, int flags, struct sockaddr *address,
                                 socklen_t *address_bytes)
{
	(void)room;
	return recvfrom(fd, buffer, bytes, flags, address, address_bytes);
}

/* ---- output */

static long write_call(struct transfer *w) { return REAL(write)(w->fd, w->vector->iov_base, w->vector->iov_len); }
static long writev_call(struct transfer *w) { return REAL(writev)(w->fd, w->vector, w->count); }
static long send_call(struct transfer *w) { return REAL(send)(w->fd, w->vector->iov_base, w->vector->iov_len, w->flags); }
static long sendmsg_call(struct transfer *w) { return REAL(sendmsg)(w->fd, w->message, w->flags); }
static long sendto_call(struct transfer *w)
{
	return REAL(sendto)(w->fd, w->vector->iov_base, w->vector->iov_len, w->flags, w->address, w->to_bytes);
}

/* The record is in the lane: what did the real call make of it? */
static long output_result_again(int fd, size_t wanted)
{
	uint32_t object;
	/* A section may have ended before the real call, or begun in it. */
	if (ft_kind_ahead(ft_me, &object) != LOG_OUTPUT_SHORT || object != (uint32_t)fd)
		return (long)wanted;
	const struct log_event *e = ft_take(LOG_OUTPUT_SHORT, (uint32_t)fd);
	if (e == NULL)
		return (long)wanted;
	long result = ft_result(e);
	if (result < 0 && errno == EINTR)
		ft_signals_replay_coming(ft_me);
	return result;
}

static void check_output(const struct log_event *e, size_t bytes, uint32_t crc)
{
	struct ft_sides mine = {.what = "output", .kind = e->record.kind, .object = e->record.object, .got_bytes = bytes,
		.got_crc = crc};
	if (e->output.bytes != (uint32_t)bytes || e->output.crc != crc)
		ft_diverged(&mine, e);
	ft_me->verified++;
	ft_me->verified_bytes += bytes;
}

static long output_after_record(struct transfer *w, size_t bytes)
{
	ft_real_begin();
	long result = w->call(w);
	int error = errno;
	ft_real_end_quietly();
	if ((result != (long)bytes && !ft_put_call(LOG_OUTPUT_SHORT, (uint32_t)w->fd, result, error, NULL, 0)) ||
	    (result == (long)bytes && ft_mode_word() == LOG_MODE_REPLAY)) {
		/* What this call has put into the restored socket is there. */
		long logged = output_result_again(w->fd, bytes);
		int logged_error = errno;
		if (logged > 0)
			ft_connection_wrote(w->fd, w->vector, w->count, result > 0 ? (size_t)result : 0, (size_t)logged);
		errno = logged_error;
		return logged;
	}
	if (result < 0 && error == EINTR)
		ft_signals_run(ft_me);
	errno = error;
	return result;
}

static long external_out(struct transfer *w)
{
	size_t bytes;
	uint32_t crc = ft_checksum_of(w->vector, w->count, &bytes);
	struct log_output output = {(uint32_t)bytes, crc};
	uint64_t word;
	memcpy(&word, &output, 8);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return w->call(w);
		if (mode == LOG_MODE_RECORD) {
			if (ft_put_value(LOG_OUTPUT, (uint32_t)w->fd, word))
				return output_after_record(w, bytes);
			continue;
		}
		const struct log_event *e = ft_take(LOG_OUTPUT, (uint32_t)w->fd);
		if (e == NULL)
			continue;
		check_output(e, bytes, crc);
		ft_done(e);
		long result = output_result_again(w->fd, bytes);
		int error = errno;
		if (result > 0)
			ft_connection_wrote(w->fd, w->vector, w->count, 0, (size_t)result);
		errno = error;
		return result;
	}
}

static long channel_out(struct transfer *w)
{
	struct ft_descriptor *d = ft_descriptor(w->fd);
	size_t bytes = size_of(w->vector, w->count);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return w->call(w);
		if (mode == LOG_MODE_RECORD) {
			if (ft_put_turn(LOG_CHANNEL_WRITE, (uint32_t)w->fd, (long)bytes, 0, d->channel, NULL, 0))
				return output_after_record(w, bytes);
			continue;
		}
		const struct log_event *e = ft_take(LOG_CHANNEL_WRITE, (uint32_t)w->fd);
		if (e == NULL)
			continue;
		struct ft_sides mine = {.what = "length", .kind = LOG_CHANNEL_WRITE, .object = (uint32_t)w->fd, .got_bytes = bytes};
		if (e->call.result != (int32_t)bytes)
			ft_diverged(&mine, e);
		ft_done(e);
		long result = output_result_again(w->fd, bytes);
		int error = errno;
		if (result > 0)
			write_again(w->fd, w->vector, w->count, result);
		errno = error;
		return result;
	}
}

static long transfer_out(struct transfer *w)
{
	return ft_kind_of(w->fd) == FT_CHANNEL ? channel_out(w) : external_out(w);
}

FT_PUBLIC ssize_t write(int fd, const void *buffer, size_t bytes)
{
	if (!is_recorded(fd))
		return REAL(write)(fd, buffer, bytes);
	struct iovec vector = {(void *)buffer, bytes};
	struct transfer w = {.fd = fd, .vector = &vector, .count = 1, .call = write_call};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t writev(int fd, const struct iovec *vector, int count)
{
	if (!is_recorded(fd))
		return REAL(writev)(fd, vector, count);
	struct transfer w = {.fd = fd, .vector = (struct iovec *)vector, .count = count, .call = writev_call};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t send(int fd, const void *buffer, size_t bytes, int flags)
{
	if (!is_recorded(fd))
		return REAL(send)(fd, buffer, bytes, flags);
	struct iovec vector = {(void *)buffer, bytes};
	struct transfer w = {.fd = fd, .vector = &vector, .count = 1, .call = send_call, .flags = flags};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t sendto(int fd, const void *buffer, size_t bytes, int flags, const struct sockaddr *to, socklen_t to_bytes)
{
	if (!is_recorded(fd))
		return REAL(sendto)(fd, buffer, bytes, flags, to, to_bytes);
	struct iovec vector = {(void *)buffer, bytes};
	struct transfer w = {.fd = fd, .vector = &vector, .count = 1, .call = sendto_call, .flags = flags,
		.address = (struct sockaddr *)to, .to_bytes = to_bytes};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (!is_recorded(fd))
		return REAL(sendmsg)(fd, message, flags);
	struct transfer w = {.fd = fd, .vector = message->msg_iov, .count = (int)message->msg_iovlen, .call = sendmsg_call,
		.flags = flags, .message = (struct msghdr *)message};
	return transfer_out(&w);
}

/* The bytes come from a file and are not seen here: the result is recorded, and the file's offset follows it. */
FT_PUBLIC ssize_t sendfile64(int out, int in, off_t *offset, size_t bytes)
{
	if (!is_recorded(out))
		return REAL(sendfile64)(out, in, offset, bytes);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(sendfile64)(out, in, offset, bytes);
		if (mode == LOG_MODE_RECORD) {
			off_t before = offset != NULL ? *offset : 0;
			if (!ft_put_call(LOG_FILE_CALL, (uint32_t)out, (long)(bytes & INT32_MAX), 0, NULL, 0))
				continue;
			ft_real_begin();
			ssize_t result = REAL(sendfile64)(out, in, offset, bytes);
			int error = errno;
			ft_real_end();
			if (ft_put_call(LOG_SOCKET_CALL, (uint32_t)out, result, error, NULL, 0)) {
				errno = error;
				return result;
			}
			if (offset != NULL)
				*offset = before;
			else if (result > 0)
				ft_syscall(SYS_lseek, (long)in, (long)-result, (long)SEEK_CUR);
		} else {
			const struct log_event *e = ft_take(LOG_FILE_CALL, (uint32_t)out);
			if (e == NULL)
				continue;
			ft_done(e);
		}
		const struct log_event *e = ft_take(LOG_SOCKET_CALL, (uint32_t)out);
		if (e == NULL)
			return REAL(sendfile64)(out, in, offset, bytes);
		if (e->call.result > 0) {
			if (offset != NULL)
				*offset += e->call.result;
			else
				ft_syscall(SYS_lseek, (long)in, (long)e->call.result, (long)SEEK_CUR);
		}
		return ft_result(e);
	}
}

FT_PUBLIC ssize_t sendfile(int out, int in, off_t *offset, size_t bytes)
{
	return sendfile64(out, in, offset, bytes);
}
