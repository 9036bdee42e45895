/*
 * TCP connections in a replay: how far the application is with each, what it has written and the client may not have, and
 * the sockets that it has closed, put aside. With that ftlive (native/live) makes them again when the log has ended.
 *
 * Invariants:
 *  - Outside of a replay there is no entry: recording costs nothing here.
 *  - An entry belongs to one open file, however many descriptors it has; `uses` counts those.
 *  - Entries are made under `adding`, and belong to their descriptor only when they are whole: in a replay threads meet their
 *    connections for the first time all at once, and two that got the same entry would lose both clients.
 *  - Bytes that a restored thread read or wrote for real, in the call in which it was restored, are in its socket: they are
 *    not counted here.
 */
#include "recorder/connections.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "live/take.h"
#include "recorder/real.h"

enum { CONNECTIONS_MAX = 16384, KEPT_BYTES = 8 << 20, LIVE_TIMEOUT_MS = 10000, NAME_BYTES_MAX = 64 };

struct connection {
	uint32_t uses; /* 0 and not closed: free */
	int fd;        /* one of its descriptors, or where it was put aside */
	bool since_checkpoint, shut_read, shut_write, closed, aborts;
	struct sockaddr_in local, remote;
	uint64_t read, written;
	uint8_t *kept; /* the last KEPT_BYTES that were written */
};

static struct connection *connections; /* entry 0 is nobody's */
static uint32_t connection_count;
static _Atomic bool adding;
static char live_name[NAME_BYTES_MAX];
static struct live live = {.socket = -1};
static pthread_mutex_t live_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t live_until_ns;

bool ft_connections_wanted(void) { return live_name[0] != 0; }

void ft_connections_start(const char *name)
{
	if (name == NULL || strlen(name) >= sizeof live_name)
		return;
	/* Address space only: a page of it is taken when a replay touches it, and given back after. */
	void *room = mmap(NULL, CONNECTIONS_MAX * sizeof *connections, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return;
	connections = room;
	connection_count = 1;
	strcpy(live_name, name);
}

/* A new one, or (`unless_known`) the descriptor's if another thread was faster. */
static struct connection *add(int fd, bool since_checkpoint, bool unless_known)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	struct connection *c = NULL;
	while (atomic_exchange_explicit(&adding, true, memory_order_acquire))
		ft_syscall(SYS_sched_yield);
	if (unless_known && d->connection != 0) {
		c = &connections[d->connection];
	} else if (connection_count != 0 && connection_count < CONNECTIONS_MAX) {
		c = &connections[connection_count];
		*c = (struct connection){.uses = 1, .fd = fd, .since_checkpoint = since_checkpoint};
		atomic_thread_fence(memory_order_release);
		d->connection = connection_count++;
	}
	atomic_store_explicit(&adding, false, memory_order_release);
	return c;
}

/* Of a descriptor that was there before the replay: the checkpoint's. */
static struct connection *of(int fd)
{
	struct ft_descriptor *d = ft_descriptor(fd);
	if (!ft_connections_wanted() || d->kind != FT_SOCKET || (d->domain != AF_INET && d->domain != AF_INET6))
		return NULL;
	if (d->connection != 0)
		return &connections[d->connection];
	return d->placeholder ? NULL : add(fd, true, true);
}

static bool as_ipv4(const void *bytes, size_t length, struct sockaddr_in *out)
{
	struct sockaddr_storage any;
	if (length < sizeof(sa_family_t) || length > sizeof any)
		return false;
	memset(&any, 0, sizeof any);
	memcpy(&any, bytes, length);
	const struct sockaddr_in6 *mapped = (const struct sockaddr_in6 *)&any;
	*out = (struct sockaddr_in){.sin_family = AF_INET};
	if (any.ss_family == AF_INET) {
		memcpy(out, &any, sizeof *out);
		return true;
	}
	if (any.ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&mapped->sin6_addr))
		return false;
	memcpy(&out->sin_addr, mapped->sin6_addr.s6_addr + 12, 4);
	out->sin_port = mapped->sin6_port;
	return true;
}

void ft_connection_accepted(int fd, const void *remote, size_t remote_bytes, const void *local, size_t local_bytes)
{
	struct connection *c = ft_connections_wanted() ? add(fd, false, false) : NULL;
	if (c == NULL)
		return;
	/* With no addresses nothing can be said of it: the broker will not know it, and it ends. */
	if (!as_ipv4(remote, remote_bytes, &c->remote) || !as_ipv4(local, local_bytes, &c->local))
		c->remote.sin_family = c->local.sin_family = 0;
}

void ft_connection_read(int fd, long bytes)
{
	struct connection *c = bytes != 0 ? of(fd) : NULL;
	if (c != NULL)
		c->read += (uint64_t)bytes;
}

static void keep(struct connection *c, const uint8_t *bytes, size_t count)
{
	if (c->kept == NULL) {
		void *room = mmap(NULL, KEPT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		c->kept = room == MAP_FAILED ? NULL : room;
	}
	while (count > 0) {
		size_t at = (size_t)(c->written % KEPT_BYTES), here = count < KEPT_BYTES - at ? count : KEPT_BYTES - at;
		if (c->kept != NULL)
			memcpy(c->kept + at, bytes, here);
		c->written += here;
		bytes += here;
		count -= here;
	}
}

void ft_connection_wrote(int fd, const struct iovec *vector, int count, size_t from, size_t to)
{
	struct connection *c = from < to ? of(fd) : NULL;
	size_t at = 0;
	for (int i = 0; c != NULL && i < count && at < to; at += vector[i++].iov_len) {
		size_t begin = from > at ? from - at : 0, end = to - at < vector[i].iov_len ? to - at : vector[i].iov_len;
		if (begin < end)
			keep(c, (const uint8_t *)vector[i].iov_base + begin, end - begin);
	}
}

void ft_connection_shut(int fd, int how)
{
	struct connection *c = of(fd);
	if (c == NULL)
		return;
	c->shut_read |= how == SHUT_RD || how == SHUT_RDWR;
	c->shut_write |= how == SHUT_WR || how == SHUT_RDWR;
}

void ft_connection_option(int fd, int level, int name, const void *value, size_t bytes)
{
	struct linger linger;
	struct connection *c = level == SOL_SOCKET && name == SO_LINGER && bytes >= sizeof linger ? of(fd) : NULL;
	if (c == NULL)
		return;
	memcpy(&linger, value, sizeof linger);
	c->aborts = linger.l_onoff != 0 && linger.l_linger == 0;
}

void ft_connection_duplicated(int fd)
{
	struct connection *c = of(fd);
	if (c != NULL)
		c->uses++;
}

/* Out of the way of the numbers that the application is given, and of none that it may use: from the limit down. */
static int put_aside(int fd)
{
	struct rlimit limit = {0};
	int aside = -1;
	if (ft_syscall(SYS_prlimit64, 0L, (long)RLIMIT_NOFILE, 0L, &limit) != 0)
		return -1;
	long highest = limit.rlim_cur < FT_DESCRIPTORS_MAX ? (long)limit.rlim_cur : FT_DESCRIPTORS_MAX;
	for (long room = 64; aside < 0 && room < highest; room *= 2)
		aside = (int)ft_syscall(SYS_fcntl, (long)fd, (long)F_DUPFD_CLOEXEC, highest - room);
	return aside;
}

void ft_connection_closes(int fd)
{
	struct connection *c = of(fd);
	if (c == NULL || --c->uses > 0)
		return;
	c->closed = true;
	c->fd = put_aside(fd);
}

/* ---- the end */

static bool output(void *context, uint32_t claim, uint64_t from, void *room, size_t bytes)
{
	const struct connection *c = &connections[((const uint32_t *)context)[claim]];
	uint8_t *out = room;
	if (c->kept == NULL || from + bytes > c->written || c->written - from > KEPT_BYTES)
		return false;
	while (bytes > 0) {
		size_t at = (size_t)(from % KEPT_BYTES), here = bytes < KEPT_BYTES - at ? bytes : KEPT_BYTES - at;
		memcpy(out, c->kept + at, here);
		out += here;
		from += here;
		bytes -= here;
	}
	return true;
}

static struct live_claim claim_of(const struct connection *c)
{
	return (struct live_claim){.descriptor = c->fd, .since_checkpoint = c->since_checkpoint, .shut_read = c->shut_read,
		.shut_write = c->shut_write, .closed = c->closed, .aborted = c->closed && c->aborts, .local = c->local,
		.remote = c->remote, .read_bytes = c->read, .written_bytes = c->written};
}

/* Open ones first: of two connections between the same ports the later one is what the frames tell of. */
static uint32_t make_claims(struct live_claim *claims, uint32_t *numbers)
{
	uint32_t count = 0;
	for (int closed = 0; closed < 2; closed++)
		for (uint32_t i = 1; i < connection_count; i++)
			if (connections[i].closed == closed) {
				numbers[count] = i;
				claims[count++] = claim_of(&connections[i]);
			}
	return count;
}

static void forget_all(void)
{
	for (uint32_t i = 1; i < connection_count; i++) {
		if (connections[i].kept != NULL)
			munmap(connections[i].kept, KEPT_BYTES);
		if (connections[i].closed && connections[i].fd >= 0)
			ft_syscall(SYS_close, (long)connections[i].fd);
	}
	for (int fd = 0; fd < FT_DESCRIPTORS_MAX; fd++)
		if (ft_descriptors[fd].connection != 0) {
			ft_descriptors[fd].placeholder = false;
			ft_descriptors[fd].connection = 0;
		}
	madvise(connections, CONNECTIONS_MAX * sizeof *connections, MADV_DONTNEED);
	connection_count = 1;
}

static bool is_connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof peer;
	return REAL(getpeername)(fd, (struct sockaddr *)&peer, &length) == 0 && (peer.ss_family == AF_INET || peer.ss_family == AF_INET6);
}

const char *ft_connections_go_live(void)
{
	static const char failed[] = "the connections could not be handed over";
	if (!ft_connections_wanted())
		return NULL;
	/* Those that the replay did not touch are the checkpoint's too. */
	for (int fd = 0; fd < FT_DESCRIPTORS_MAX; fd++)
		if (ft_descriptors[fd].kind == FT_SOCKET && ft_descriptors[fd].connection == 0 &&
		    !ft_descriptors[fd].placeholder && is_connected(fd))
			(void)of(fd);
	size_t bytes = connection_count * (sizeof(struct live_claim) + sizeof(uint32_t));
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return failed;
	struct live_claim *claims = room;
	uint32_t *numbers = (uint32_t *)(claims + connection_count);
	uint32_t count = make_claims(claims, numbers);
	int result = live_take(&live, live_name, ft_processes_there(), claims, count, output, numbers, LIVE_TIMEOUT_MS);
	if (result != 0)
		ft_write_line("ftrec: handing over %u connections: %s\n", count, strerror(errno));
	munmap(room, bytes);
	forget_all();
	live_until_ns = live.stand_ins != 0 ? ft_now_ns() + 2000000000u : 0;
	return result == 0 ? NULL : failed;
}

/* What the parent has put aside, and its line to ftlive, are the parent's. */
void ft_connections_forked(void)
{
	for (uint32_t i = 1; i < connection_count; i++)
		if (connections[i].closed && connections[i].fd >= 0)
			ft_syscall(SYS_close, (long)connections[i].fd);
	for (int fd = 0; fd <= ft_descriptor_highest; fd++)
		ft_descriptors[fd].connection = 0;
	if (ft_connections_wanted()) {
		madvise(connections, CONNECTIONS_MAX * sizeof *connections, MADV_DONTNEED);
		connection_count = 1;
	}
	live_end(&live);
	live_until_ns = 0;
}

/* ---- stand-ins: connections that nobody had accepted */

int ft_connection_stand_in(int fd, struct sockaddr_in *remote)
{
	if (likely(live_until_ns == 0))
		return 0;
	REAL(pthread_mutex_lock)(&live_lock);
	int result = live_accepted(&live, fd, remote);
	if (live.stand_ins == 0)
		live_until_ns = 0;
	REAL(pthread_mutex_unlock)(&live_lock);
	return result;
}

/* No checkpoint can be taken while that line is open. */
void ft_connections_tick(void)
{
	if (likely(live_until_ns == 0) || ft_now_ns() < live_until_ns || REAL(pthread_mutex_trylock)(&live_lock) != 0)
		return;
	live_end(&live);
	live_until_ns = 0;
	REAL(pthread_mutex_unlock)(&live_lock);
}
