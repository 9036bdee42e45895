/* Pipes, eventfds and socket pairs: executed in a replay too, and drained of what the log says was read. */
#include "recorder/streams.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>

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

int64_t ft_channel_worth(const struct ft_descriptor *d, const void *bytes, long result)
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

void ft_channel_write_again(int fd, const struct iovec *vector, int count, int64_t bytes)
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
