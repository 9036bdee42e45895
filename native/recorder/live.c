/*
 * The log has ended: make real what only the log knew. Every thread holds still. Channels lose what has been read from
 * them; listeners that are placeholders are made anew; connections that are placeholders become closed ones, unless
 * somebody hands over the real ones; epoll sets get what they should watch.
 */
#include "log/stored.h"
#include "recorder/streams.h"

#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * In place, on the socket that stands for it (sockets.c): other processes have it too. One of them has been here before if
 * it is bound.
 */
static void make_listener(int fd)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	int one = 1;
	d->placeholder = false;
	REAL(setsockopt)(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (d->domain == AF_INET6)
		REAL(setsockopt)(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	int bound = REAL(bind)(fd, (struct sockaddr *)d->address, d->address_bytes);
	if ((bound != 0 && errno != EINVAL) || REAL(listen)(fd, d->backlog) != 0)
		ft_write_line("ftrec: a listener cannot be made again: %s\n", strerror(errno));
}

/* Reads end of file, and writes EPIPE: the peer is not there. */
static int make_closed(void)
{
	int pair[2];
	if (REAL(socketpair)(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
		return -1;
	REAL(close)(pair[1]);
	return pair[0];
}

static void make_real(int fd)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	if (d->kind == FT_CHANNEL)
		ft_channel_drain(fd);
	if (d->placeholder && d->kind == FT_LISTENER)
		make_listener(fd);
	if (d->placeholder && d->kind == FT_SOCKET) {
		int real = make_closed();
		if (real >= 0) {
			ft_move(real, fd);
			d->placeholder = false;
		}
	}
	if (d->kind != FT_SOCKET && d->kind != FT_LISTENER && d->kind != FT_INPUT)
		return;
	struct epoll_event event = {.events = d->events, .data.u64 = (uint64_t)fd};
	if (d->watched && REAL(epoll_ctl)(d->epoll, EPOLL_CTL_ADD, fd, &event) != 0 && errno == EEXIST)
		REAL(epoll_ctl)(d->epoll, EPOLL_CTL_MOD, fd, &event);
	else if (!d->watched && d->epoll >= 0)
		REAL(epoll_ctl)(d->epoll, EPOLL_CTL_DEL, fd, &event);
}

const char *ft_process_goes_live(void)
{
	struct ft_thread *me = ft_me;
	ft_me = NULL;
	const char *failed = ft_connections_go_live();
	ft_me = failed != NULL ? me : NULL;
	if (failed != NULL)
		return failed;
	ft_clocks_go_live();
	for (int fd = 0; fd < FT_DESCRIPTORS_MAX; fd++)
		if (ft_descriptors[fd].kind != FT_UNKNOWN)
			make_real(fd);
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (ft_is_here(&ft_threads[i]) && atomic_exchange(&ft_threads[i].cancelled, false) && atomic_load(&ft_threads[i].activity) != FT_GONE)
			REAL(pthread_cancel)(ft_threads[i].self);
	ft_signals_go_live();
	ft_me = me;
	return NULL;
}

const char *ft_go_live(void)
{
	const char *failed = ft_others_go_live(ft_process_goes_live);
	if (failed != NULL)
		return failed;
	/* Whoever comes later is not lane 0. */
	if (ft_process_is_there(0))
		atomic_store(&ft_log.header->owner_pid, (uint32_t)atomic_load(&ft_shared.processes[0].pid));
	/* Recording goes on from where each thread stands: what was not reached never happened. */
	if (atomic_load(&ft_log.header->after_replay) == LOG_MODE_RECORD)
		for (uint32_t i = 0; i < ft_log.lane_count; i++) {
			/* First: should this replay be made again, then to here, as recording goes on over what was not reached. */
			atomic_store(&ft_log.lanes[i].reached, ft_threads[i].position + 1);
			log_stored_forget(&ft_log, i);
			atomic_store(&ft_log.lanes[i].head, ft_threads[i].position);
			atomic_store(&ft_threads[i].wanted, 0);
			atomic_store(&ft_threads[i].pace_ns, 0);
			ft_threads[i].end = 0;
			ft_threads[i].peeked = false;
		}
	return NULL;
}
