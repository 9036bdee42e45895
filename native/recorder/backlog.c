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
	uint32_t direction; /* 2 * channel + the writer's side; 0: free */
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

static struct backlog *find(uint32_t direction, bool make)
{
	struct backlog *found = NULL;
	lock(&table_busy);
	for (int i = 0; i < BACKLOGS_MAX && found == NULL; i++)
		if (backlogs[i].direction == direction)
			found = &backlogs[i];
	for (int i = 0; i < BACKLOGS_MAX && found == NULL && make; i++)
		if (backlogs[i].direction == 0 || backlogs[i].from == backlogs[i].to) {
			found = &backlogs[i];
			found->direction = direction;
		}
	unlock(&table_busy);
	return found;
}

static bool has_room(int fd)
{
	struct pollfd room = {fd, POLLOUT, 0};
	return REAL(poll)(&room, 1, 0) > 0;
}

/* As much as goes in without blocking. What can never be written (the reader is gone) is dropped, as the kernel does. */
static size_t write_some(int fd, const uint8_t *bytes, size_t count)
{
	size_t done = 0;
	while (done < count && has_room(fd)) {
		size_t here = count - done < PIECE_BYTES ? count - done : PIECE_BYTES;
		long put = ft_syscall(SYS_write, (long)fd, bytes + done, (long)here);
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
	if (b->from > 0) {
		memmove(b->bytes, b->bytes + b->from, b->to - b->from);
		b->to -= b->from;
		b->from = 0;
	}
	size_t here = count < BACKLOG_BYTES_MAX - b->to ? count : BACKLOG_BYTES_MAX - b->to;
	if (here > 0 && b->to == 0)
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
	struct backlog *b = find(direction_of(fd, true), true);
	if (b == NULL)
		return write_some(fd, bytes, count);
	lock(&b->busy);
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
	struct backlog *b = atomic_load(&waiting) == 0 ? NULL : find(direction_of(fd, false), false);
	if (b == NULL)
		return;
	lock(&b->busy);
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
	struct backlog *b = find(direction_of(fd, true), false);
	return b == NULL || *(volatile size_t *)&b->from == *(volatile size_t *)&b->to;
}
