/* Pipes, eventfds and socket pairs: executed in a replay too, and drained of what the log says was read. */
#include "recorder/streams.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { SETTLE_TRIES = 20000 };

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
		ft_backlog_flush(fd);
		if (ft_syscall(SYS_ioctl, (long)fd, (long)FIONREAD, &there) != 0 || there <= 0)
			return;
		int64_t want = there < d->debt ? there : d->debt;
		long got = ft_syscall(SYS_read, (long)fd, scrap, (long)(want < (int64_t)sizeof scrap ? want : (int64_t)sizeof scrap));
		if (got <= 0)
			return;
		d->debt -= got;
	}
	ft_backlog_flush(fd);
}

int64_t ft_channel_worth(const struct ft_descriptor *d, const void *bytes, long result)
{
	int64_t value = result;
	if (d->eventfd && result == 8)
		memcpy(&value, bytes, 8);
	return result > 0 ? value : 0;
}

static bool is_flushed(const struct ft_thread *t, uint64_t fd)
{
	(void)t;
	return ft_backlog_is_empty((int)fd);
}

/*
 * What was kept goes first: before a write past the end of a replay (which waits for the reader, as it would have), and
 * before a close (which never does: what nobody reads for a second is given up).
 */
void ft_channel_settle(int fd, bool closes)
{
	struct timespec nap = {0, 50000};
	if (ft_backlog_is_empty(fd))
		return;
	if (ft_mode_word() == LOG_MODE_REPLAY)
		ft_wait_until(ft_me, is_flushed, (uint64_t)fd);
	ft_real_begin();
	for (int tries = 0; (!closes || tries < SETTLE_TRIES) && !ft_backlog_is_empty(fd); tries++) {
		ft_backlogs_flush();
		ft_syscall(SYS_nanosleep, &nap, NULL);
	}
	ft_real_end_quietly();
}

static void write_event(int fd, const void *value)
{
	ft_real_begin();
	while (ft_syscall(SYS_write, (long)fd, value, 8L) < 0 && errno == EINTR)
		;
	ft_real_end_quietly();
}

/* The bytes from..to of what the application wrote. */
void ft_channel_write_again(int fd, const struct iovec *vector, int count, size_t from, size_t to)
{
	struct timespec nap = {0, 50000};
	size_t at = 0;
	if (ft_descriptor(fd)->eventfd && from == 0) {
		write_event(fd, vector->iov_base);
		return;
	}
	for (int i = 0; i < count && at < to; at += vector[i++].iov_len) {
		size_t begin = from > at ? from - at : 0, end = to - at < vector[i].iov_len ? to - at : vector[i].iov_len;
		for (int tries = 0; begin < end && tries < SETTLE_TRIES; tries++) {
			begin += ft_backlog_write(fd, (const uint8_t *)vector[i].iov_base + begin, end - begin);
			if (begin < end) /* even the backlog is full */
				ft_syscall(SYS_nanosleep, &nap, NULL);
		}
	}
}
