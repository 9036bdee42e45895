/*
 * Writing. What goes out is recorded by length and checksum *before* it is written, so that the record of an output is in
 * every cut that is taken after the output was seen; a second record follows only if the real call did not take everything.
 */
#include "recorder/streams.h"

#include <sys/syscall.h>
#include <unistd.h>

enum { SENDFILE_BYTES = 32768 };

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
		ft_signals_replay_inside(ft_me);
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
	long result;
	int error;
	do {
		ft_real_begin();
		result = w->call(w);
		error = errno;
		ft_real_end_quietly();
	} while (result < 0 && error == EINTR && ft_only_kicked(ft_me));
	if ((result != (long)bytes && !ft_put_call(LOG_OUTPUT_SHORT, (uint32_t)w->fd, result, error, NULL, 0)) ||
	    (result == (long)bytes && ft_mode_word() == LOG_MODE_REPLAY)) {
		/* What this call has put into the restored socket is there. */
		long logged = output_result_again(w->fd, bytes);
		int logged_error = errno;
		size_t there = result > 0 ? (size_t)result : 0;
		if (there == 0 && logged > 0 && ft_passes_descriptors(w->message))
			ft_send_again(w->fd, w->message, w->flags);
		else if (logged > 0 && ft_kind_of(w->fd) == FT_CHANNEL)
			ft_channel_write_again(w->fd, w->vector, w->count, there, (size_t)logged);
		else if (logged > 0)
			ft_connection_wrote(w->fd, w->vector, w->count, there, (size_t)logged);
		errno = logged_error;
		return logged;
	}
	if (result < 0 && error == EINTR)
		ft_signals_run_inside(ft_me);
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
	size_t bytes = ft_vector_bytes(w->vector, w->count);
	FT_CALL {
		if (mode != LOG_MODE_REPLAY && unlikely(!ft_backlog_is_empty(w->fd)))
			ft_channel_settle(w->fd, false);
		if (mode == LOG_MODE_LIVE)
			return w->call(w);
		if (mode == LOG_MODE_RECORD) {
			ft_passes_nothing_external(w->message);
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
		if (result > 0 && ft_passes_descriptors(w->message))
			ft_send_again(w->fd, w->message, w->flags);
		else if (result > 0)
			ft_channel_write_again(w->fd, w->vector, w->count, 0, (size_t)result);
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
	if (!ft_is_recorded(fd))
		return REAL(write)(fd, buffer, bytes);
	struct iovec vector = {(void *)buffer, bytes};
	struct transfer w = {.fd = fd, .vector = &vector, .count = 1, .call = write_call};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t writev(int fd, const struct iovec *vector, int count)
{
	if (!ft_is_recorded(fd))
		return REAL(writev)(fd, vector, count);
	struct transfer w = {.fd = fd, .vector = (struct iovec *)vector, .count = count, .call = writev_call};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t send(int fd, const void *buffer, size_t bytes, int flags)
{
	if (!ft_is_recorded(fd))
		return REAL(send)(fd, buffer, bytes, flags);
	struct iovec vector = {(void *)buffer, bytes};
	struct transfer w = {.fd = fd, .vector = &vector, .count = 1, .call = send_call, .flags = flags};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t sendto(int fd, const void *buffer, size_t bytes, int flags, const struct sockaddr *to, socklen_t to_bytes)
{
	if (!ft_is_recorded(fd))
		return REAL(sendto)(fd, buffer, bytes, flags, to, to_bytes);
	struct iovec vector = {(void *)buffer, bytes};
	struct transfer w = {.fd = fd, .vector = &vector, .count = 1, .call = sendto_call, .flags = flags,
		.address = (struct sockaddr *)to, .to_bytes = to_bytes};
	return transfer_out(&w);
}

FT_PUBLIC ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (!ft_is_recorded(fd))
		return REAL(sendmsg)(fd, message, flags);
	struct transfer w = {.fd = fd, .vector = message->msg_iov, .count = (int)message->msg_iovlen, .call = sendmsg_call,
		.flags = flags, .message = (struct msghdr *)message};
	return transfer_out(&w);
}

/*
 * The bytes are read here and written like any others: the record of an output has to be there before it leaves, and the
 * kernel's own way tells how much it took only when much of that has left. As long as the socket takes all, it goes on:
 * an application that waits for edges would not be woken after less.
 */
static ssize_t send_from_file(int out, int in, off_t *offset, size_t bytes)
{
	uint8_t buffer[SENDFILE_BYTES];
	off_t at = offset != NULL ? *offset : ft_syscall(SYS_lseek, (long)in, 0L, (long)SEEK_CUR);
	ssize_t done = 0;
	for (;;) {
		size_t wanted = bytes - (size_t)done < sizeof buffer ? bytes - (size_t)done : sizeof buffer;
		ssize_t got = wanted > 0 ? REAL(pread64)(in, buffer, wanted, at) : 0;
		struct iovec vector = {buffer, got > 0 ? (size_t)got : 0};
		struct transfer w = {.fd = out, .vector = &vector, .count = 1, .call = write_call};
		ssize_t sent = got > 0 ? transfer_out(&w) : got;
		if (sent <= 0)
			return done > 0 ? done : sent;
		done += sent;
		at += sent;
		if (offset != NULL)
			*offset = at;
		else
			ft_syscall(SYS_lseek, (long)in, (long)at, (long)SEEK_SET);
		if (sent < got)
			return done;
	}
}

FT_PUBLIC ssize_t sendfile64(int out, int in, off_t *offset, size_t bytes)
{
	if (!ft_is_recorded(out) || ft_enter() == LOG_MODE_LIVE)
		return REAL(sendfile64)(out, in, offset, bytes);
	return send_from_file(out, in, offset, bytes);
}

FT_PUBLIC ssize_t sendfile(int out, int in, off_t *offset, size_t bytes)
{
	return sendfile64(out, in, offset, bytes);
}
