/*
 * What a replayed write puts into a channel that is full. When it was recorded a reader made room, whose record may come
 * after the writer's next one: waiting for it here would be waiting for oneself. So the rest is kept, in order, and follows
 * as the channel is drained.
 *
 * Invariants:
 *  - A backlog belongs to one direction of a channel; while it is not empty, nothing is written past it.
 *  - Only a replay fills one. What is left at its end follows while the reader goes on; a writer waits for that.
 */
#include "recorder/streams.h"

#include <sys/mman.h>
#include <sys/syscall.h>

enum { BACKLOGS_MAX = 64, BACKLOG_BYTES_MAX = 8 << 20, PIECE_BYTES = 4096 /* what a pipe with room takes without blocking */ };

struct backlog {
	_Atomic uint32_t busy;
	_Atomic uint32_t direction; /* 2 * channel + the writer's side; 0: free */
	int fd;
	uint8_t *bytes;
	size_t from, to;
};
static struct backlog backlogs[BACKLOGS_MAX];
static _Atomic uint32_t table_busy, waiting; /* how many are not empty */

static void lock(_Atomic uint32_t *busy)
{
	while (atomic_exchange_explicit(busy, 1, memory_order_acquire) != 0)
		ft_syscall(SYS_sched_yield);
}

static void unlock(_Atomic uint32_t *busy) { atomic_store_explicit(busy, 0, memory_order_release); }

static struct backlog *find(uint32_t direction)
{
	for (int i = 0; i < BACKLOGS_MAX; i++)
		if (atomic_load(&backlogs[i].direction) == direction)
			return &backlogs[i];
	return NULL;
}

/* An empty one changes hands only while it is locked: who locks one looks again whose it is. */
static struct backlog *take(uint32_t direction)
{
	struct backlog *found;
	lock(&table_busy);
	found = find(direction);
	for (int i = 0; i < 2 * BACKLOGS_MAX && found == NULL; i++) {
		struct backlog *b = &backlogs[i % BACKLOGS_MAX];
		if ((i < BACKLOGS_MAX && b->direction != 0) || atomic_exchange(&b->busy, 1) != 0)
			continue;
		if (b->from == b->to) {
			b->direction = direction;
			found = b;
		}
		unlock(&b->busy);
	}
	unlock(&table_busy);
	return found;
}

/* NULL: there is none, or (to write) no room for one. */
static struct backlog *lock_of(uint32_t direction, bool make)
{
	struct backlog *b;
	while ((b = make ? take(direction) : find(direction)) != NULL) {
		lock(&b->busy);
		if (b->direction == direction)
			break;
		unlock(&b->busy);
	}
	return b;
}

static bool has_room(int fd)
{
	struct pollfd room = {fd, POLLOUT, 0};
	return REAL(poll)(&room, 1, 0) > 0;
}

/*
 * The reader may be another process, which is ahead and has closed its end: in the original this write came before that.
 * The signal would be one that nobody had.
 */
static long write_quietly(int fd, const uint8_t *bytes, size_t count)
{
	static const struct timespec now = {0, 0};
	sigset_t pipe_only, before;
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	REAL(pthread_sigmask)(SIG_BLOCK, &pipe_only, &before);
	long put = ft_syscall(SYS_write, (long)fd, bytes, (long)count);
	int error = errno;
	if (put < 0 && error == EPIPE && !sigismember(&before, SIGPIPE))
		ft_syscall(SYS_rt_sigtimedwait, &pipe_only, NULL, &now, 8L);
	REAL(pthread_sigmask)(SIG_SETMASK, &before, NULL);
	errno = error;
	return put;
}

/* As much as goes in without blocking. What can never be written (the reader is gone) is dropped, as the kernel does. */
static size_t write_some(int fd, const uint8_t *bytes, size_t count)
{
	size_t done = 0;
	while (done < count && has_room(fd)) {
		size_t here = count - done < PIECE_BYTES ? count - done : PIECE_BYTES;
		long put = write_quietly(fd, bytes + done, here);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno != EAGAIN)
			return count;
		if (put <= 0)
			break;
		done += (size_t)put;
	}
	return done;
}

static void flush(struct backlog *b)
{
	if (b->from == b->to)
		return;
	b->from += write_some(b->fd, b->bytes + b->from, b->to - b->from);
	if (b->from != b->to)
		return;
	b->from = b->to = 0;
	atomic_fetch_sub(&waiting, 1);
}

/* How much of it was taken. */
static size_t append(struct backlog *b, int fd, const uint8_t *bytes, size_t count)
{
	if (b->bytes == NULL) {
		void *room = mmap(NULL, BACKLOG_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (room == MAP_FAILED)
			return 0;
		b->bytes = room;
	}
	if (b->from > 0 && count > BACKLOG_BYTES_MAX - b->to) {
		memmove(b->bytes, b->bytes + b->from, b->to - b->from);
		b->to -= b->from;
		b->from = 0;
	}
	size_t here = count < BACKLOG_BYTES_MAX - b->to ? count : BACKLOG_BYTES_MAX - b->to;
	if (here > 0 && b->from == b->to)
		atomic_fetch_add(&waiting, 1);
	memcpy(b->bytes + b->to, bytes, here);
	b->to += here;
	b->fd = fd;
	return here;
}

static uint32_t direction_of(int fd, bool writes)
{
	const struct ft_descriptor *d = ft_descriptor(fd);
	return 2 * d->channel + (writes ? d->side : !d->side);
}

size_t ft_backlog_write(int fd, const uint8_t *bytes, size_t count)
{
	struct backlog *b = lock_of(direction_of(fd, true), true);
	if (b == NULL)
		return write_some(fd, bytes, count);
	flush(b);
	size_t done = b->from == b->to ? write_some(fd, bytes, count) : 0;
	if (done < count)
		done += append(b, fd, bytes + done, count - done);
	unlock(&b->busy);
	return done;
}

/* A reader has made room. */
void ft_backlog_flush(int fd)
{
	struct backlog *b = atomic_load(&waiting) == 0 ? NULL : lock_of(direction_of(fd, false), false);
	if (b == NULL)
		return;
	flush(b);
	unlock(&b->busy);
}

void ft_backlogs_flush(void)
{
	for (int i = 0; i < BACKLOGS_MAX && atomic_load(&waiting) != 0; i++)
		if (atomic_exchange(&backlogs[i].busy, 1) == 0) {
			flush(&backlogs[i]);
			unlock(&backlogs[i].busy);
		}
}

bool ft_backlog_is_empty(int fd)
{
	if (likely(atomic_load_explicit(&waiting, memory_order_relaxed) == 0))
		return true;
	struct backlog *b = find(direction_of(fd, true));
	return b == NULL || *(volatile size_t *)&b->from == *(volatile size_t *)&b->to;
}

/* The process has one thread, and its helper rests. */
void ft_backlog_rename(uint32_t channel, uint32_t to)
{
	for (int i = 0; i < BACKLOGS_MAX; i++)
		if (backlogs[i].direction / 2 == channel)
			backlogs[i].direction = 2 * to + backlogs[i].direction % 2;
}

/* A child's are its parent's, which writes them. */
void ft_backlogs_forget(void)
{
	for (int i = 0; i < BACKLOGS_MAX; i++)
		backlogs[i].from = backlogs[i].to = backlogs[i].direction = 0;
	atomic_store(&waiting, 0);
}
