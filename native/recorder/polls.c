/*
 * Waiting for descriptors: results come from the log. An epoll set's user data is kept here, and the set itself holds
 * descriptor numbers, so that neither the log nor a set that is built anew depends on addresses.
 */
#include "recorder/real.h"

enum { EVENTS_MAX = 4096 };

struct ready {
	uint32_t fd, events;
};

FT_PUBLIC int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	if (ft_log.header == NULL || (unsigned)fd >= FT_DESCRIPTORS_MAX || ft_kind_of(epoll) != FT_EPOLL)
		return REAL(epoll_ctl)(epoll, operation, fd, event);
	struct epoll_event inner = {.data.u64 = (uint64_t)fd};
	if (event != NULL)
		inner.events = event->events;
	FT_CALL {
		int result = 0, error = errno;
		bool replayed = mode == LOG_MODE_REPLAY;
		const struct log_event *e = replayed ? ft_take(LOG_EPOLL_CTL, (uint32_t)fd) : NULL;
		if (replayed && e == NULL)
			continue;
		/* What only the log knows cannot be in a real set; it gets there when it becomes real. */
		if (!replayed || !ft_is_external(fd)) {
			result = REAL(epoll_ctl)(epoll, operation, fd, &inner);
			error = errno;
		}
		if (mode == LOG_MODE_RECORD && !ft_put_call(LOG_EPOLL_CTL, (uint32_t)fd, result, error, NULL, 0))
			continue; /* done already: EEXIST and the like do not matter when it is done again */
		if (replayed && (error = errno, result = (int)ft_result(e)) < 0)
			error = errno;
		if (result == 0 && operation == EPOLL_CTL_DEL) {
			d->watched = false;
		} else if (result == 0) {
			if (d->watched && d->epoll != epoll)
				ft_lost(LOG_LOSS_DESCRIPTOR); /* one descriptor in two sets */
			d->watched = true;
			d->epoll = epoll;
			d->events = event->events;
			d->data = event->data.u64;
		}
		errno = error;
		return result;
	}
}

static int translate(struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++)
		events[i].data.u64 = ft_descriptor((int)events[i].data.u64)->data;
	return count;
}

static int wait_call(int epoll, struct epoll_event *events, int room, int timeout, const sigset_t *mask)
{
	return mask == NULL ? REAL(epoll_wait)(epoll, events, room, timeout) : REAL(epoll_pwait)(epoll, events, room, timeout, mask);
}

static bool timer_is_due(int result, int timeout_ms, uint64_t began_ns)
{
	if (result == 0)
		return true;
	/* The application computes whole milliseconds: a timer may be due a little before its time-out ends. */
	return timeout_ms > 0 && ft_now_ns() - began_ns >= (timeout_ms > 10 ? (uint64_t)(timeout_ms - 10) * 1000000 : 0);
}

static bool others_exist(void) { return atomic_load_explicit(&ft_thread_count, memory_order_relaxed) > 1; }

static int epoll_waited(int epoll, struct epoll_event *events, int room, int timeout, const sigset_t *mask)
{
	if (ft_log.header == NULL || ft_kind_of(epoll) != FT_EPOLL)
		return wait_call(epoll, events, room, timeout, mask);
	struct ready ready[EVENTS_MAX];
	if (room > EVENTS_MAX)
		room = EVENTS_MAX;
	FT_CALL {
		if (mode == LOG_MODE_LIVE) {
			int result = wait_call(epoll, events, room, timeout, mask);
			return result > 0 ? translate(events, result) : result;
		}
		if (mode == LOG_MODE_RECORD) {
			uint64_t began_ns = timeout > 0 && others_exist() ? ft_now_ns() : 0;
			ft_real_begin();
			int result = wait_call(epoll, events, room, timeout, mask), error = errno;
			ft_real_end();
			for (int i = 0; i < result; i++)
				ready[i] = (struct ready){(uint32_t)events[i].data.u64, events[i].events};
			if (!ft_put_call(LOG_EPOLL_WAIT, (uint32_t)epoll, result, error, ready,
			                 result > 0 ? (size_t)result * sizeof *ready : 0))
				continue;
			if (others_exist())
				ft_solo_after_wait(ft_me, timer_is_due(result, timeout, began_ns));
			errno = error;
			return result > 0 ? translate(events, result) : result;
		}
		const struct log_event *e = ft_take(LOG_EPOLL_WAIT, (uint32_t)epoll);
		if (e == NULL)
			continue;
		int result = e->call.result;
		if (result > room || (result > 0 && (uint64_t)result * sizeof *ready > e->payload_bytes))
			ft_corrupt("more events than asked for");
		for (int i = 0; i < result; i++) {
			memcpy(&ready[0], e->payload + (size_t)i * sizeof *ready, sizeof *ready);
			events[i] = (struct epoll_event){.events = ready[0].events, .data.u64 = ft_descriptor((int)ready[0].fd)->data};
		}
		result = (int)ft_result(e);
		int error = errno;
		ft_solo_replay_begin(ft_me, false);
		errno = error;
		return result;
	}
}

FT_PUBLIC int epoll_wait(int epoll, struct epoll_event *events, int room, int timeout)
{
	return epoll_waited(epoll, events, room, timeout, NULL);
}

FT_PUBLIC int epoll_pwait(int epoll, struct epoll_event *events, int room, int timeout, const sigset_t *mask)
{
	return epoll_waited(epoll, events, room, timeout, mask);
}

/* ---- poll, select: the answers of all descriptors, one after the other */

struct poll_call {
	struct pollfd *fds;
	nfds_t count;
	const struct timespec *limit;
	int timeout_ms;
	const sigset_t *mask;
	bool precise;
};

static int poll_call(const struct poll_call *p)
{
	return p->precise ? REAL(ppoll)(p->fds, p->count, p->limit, p->mask) : REAL(poll)(p->fds, p->count, p->timeout_ms);
}

static int polled(const struct poll_call *p)
{
	int16_t answers[EVENTS_MAX];
	FT_CALL {
		if (mode == LOG_MODE_LIVE || p->count > EVENTS_MAX)
			return poll_call(p);
		if (mode == LOG_MODE_RECORD) {
			ft_real_begin();
			int result = poll_call(p), error = errno;
			ft_real_end();
			for (nfds_t i = 0; i < p->count; i++)
				answers[i] = p->fds[i].revents;
			if (!ft_put_call(LOG_POLL, (uint32_t)p->count, result, error, answers, result > 0 ? p->count * sizeof *answers : 0))
				continue;
			ft_solo_after_wait(ft_me, result == 0 && (p->precise || p->timeout_ms != 0));
			errno = error;
			return result;
		}
		const struct log_event *e = ft_take(LOG_POLL, (uint32_t)p->count);
		if (e == NULL)
			continue;
		for (nfds_t i = 0; i < p->count; i++) {
			p->fds[i].revents = 0;
			if ((i + 1) * sizeof *answers <= e->payload_bytes)
				memcpy(&p->fds[i].revents, e->payload + i * sizeof *answers, sizeof *answers);
		}
		int result = (int)ft_result(e), error = errno;
		ft_solo_replay_begin(ft_me, false);
		errno = error;
		return result;
	}
}

FT_PUBLIC int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	struct poll_call p = {.fds = fds, .count = count, .timeout_ms = timeout};
	return polled(&p);
}

FT_PUBLIC int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room)
{
	(void)room;
	return poll(fds, count, timeout);
}

FT_PUBLIC int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *mask)
{
	struct poll_call p = {.fds = fds, .count = count, .limit = limit, .mask = mask, .precise = true};
	return polled(&p);
}

FT_PUBLIC int select(int count, fd_set *read_set, fd_set *write_set, fd_set *except_set, struct timeval *limit)
{
	fd_set *sets[3] = {read_set, write_set, except_set}, asked[3];
	struct timeval asked_limit = {0};
	for (int i = 0; i < 3; i++)
		if (sets[i] != NULL)
			asked[i] = *sets[i];
	if (limit != NULL)
		asked_limit = *limit;
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(select)(count, read_set, write_set, except_set, limit);
		if (mode == LOG_MODE_RECORD) {
			ft_real_begin();
			int result = REAL(select)(count, read_set, write_set, except_set, limit), error = errno;
			ft_real_end();
			struct iovec parts[4] = {{limit != NULL ? limit : &asked_limit, sizeof *limit}};
			int used = 1;
			for (int i = 0; i < 3; i++)
				if (sets[i] != NULL)
					parts[used++] = (struct iovec){sets[i], sizeof(fd_set)};
			if (ft_put_callv(LOG_POLL, (uint32_t)count, result, error, parts, result >= 0 ? used : 0)) {
				ft_solo_after_wait(ft_me, result == 0);
				errno = error;
				return result;
			}
			for (int i = 0; i < 3; i++)
				if (sets[i] != NULL)
					*sets[i] = asked[i];
			if (limit != NULL)
				*limit = asked_limit;
			continue;
		}
		const struct log_event *e = ft_take(LOG_POLL, (uint32_t)count);
		if (e == NULL)
			continue;
		uint64_t at = sizeof *limit;
		if (limit != NULL && e->payload_bytes >= at)
			memcpy(limit, e->payload, sizeof *limit);
		for (int i = 0; i < 3; i++)
			if (sets[i] != NULL && at + sizeof(fd_set) <= e->payload_bytes) {
				memcpy(sets[i], e->payload + at, sizeof(fd_set));
				at += sizeof(fd_set);
			}
		int result = (int)ft_result(e), error = errno;
		ft_solo_replay_begin(ft_me, false);
		errno = error;
		return result;
	}
}
