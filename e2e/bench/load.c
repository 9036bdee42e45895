/*
 * Closed-loop load for the benchmark: every connection has one request out at a time, so that latency and throughput
 * belong together. One thread, epoll; cheap enough that the service, not the client, is what is measured.
 *
 *   load ADDRESS PORT redis|memcached|http CONNECTIONS WARM_UP_MS DURATION_MS VALUE_BYTES
 *
 * Prints one line of JSON. Exits 1 if a connection broke or a reply was wrong.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, REPLY_BYTES_MAX = 16384, KEYS = 10000, EVENTS = 256, VALUE_BYTES_MAX = 8192 };
enum { SUB_BITS = 9, SUB = 1 << SUB_BITS, OCTAVES = 40 };

enum protocol { REDIS, MEMCACHED, HTTP };

struct connection {
	int fd;
	uint64_t sent_us;
	size_t reply_bytes;
	char reply[REPLY_BYTES_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static uint64_t histogram[OCTAVES * SUB];
static uint64_t requests, sum_us, max_us, min_us = UINT64_MAX;
static uint64_t measure_from_us, end_us;
static enum protocol protocol;
static char value[VALUE_BYTES_MAX + 1];
static size_t value_bytes;
static uint64_t random_state = 88172645463325252ull;

static _Noreturn void fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static unsigned next_key(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state % KEYS);
}

/* Exact below 512 µs, then 512 steps an octave: an error below 0.2 %. */
static size_t bucket_of(uint64_t us)
{
	if (us < SUB) return us;
	int shift = 63 - __builtin_clzll(us) - SUB_BITS;
	size_t bucket = (size_t)(shift + 1) * SUB + ((us >> shift) - SUB);
	size_t last = OCTAVES * SUB - 1;
	return bucket < last ? bucket : last;
}

static uint64_t value_of(size_t bucket)
{
	if (bucket < SUB) return bucket;
	size_t shift = bucket / SUB - 1;
	return (uint64_t)(bucket % SUB + SUB) << shift;
}

static uint64_t percentile(double fraction)
{
	uint64_t wanted = (uint64_t)(fraction * (double)requests + 0.5), seen = 0;
	for (size_t i = 0; i < OCTAVES * SUB; i++) {
		seen += histogram[i];
		if (seen >= wanted && seen > 0) return value_of(i);
	}
	return max_us;
}

static void ask(struct connection *connection)
{
	char request[VALUE_BYTES_MAX + 256];
	int length = 0;
	switch (protocol) {
	case REDIS:
		length = snprintf(request, sizeof request, "*3\r\n$3\r\nSET\r\n$10\r\nkey:%06u\r\n$%zu\r\n%s\r\n",
				  next_key(), value_bytes, value);
		break;
	case MEMCACHED:
		length = snprintf(request, sizeof request, "set key:%06u 0 0 %zu\r\n%s\r\n", next_key(), value_bytes, value);
		break;
	case HTTP:
		length = snprintf(request, sizeof request, "GET /small.txt HTTP/1.1\r\nHost: bench\r\n\r\n");
		break;
	}
	connection->reply_bytes = 0;
	connection->sent_us = now_us();
	/* One small request into an empty socket buffer is taken whole. */
	if (send(connection->fd, request, (size_t)length, MSG_NOSIGNAL) != length) fail("send: %s", strerror(errno));
}

/* 1 = whole and right, 0 = not whole yet. */
static int reply_is_whole(const struct connection *connection)
{
	const char *reply = connection->reply;
	size_t bytes = connection->reply_bytes;
	if (protocol == HTTP) {
		const char *end = memmem(reply, bytes, "\r\n\r\n", 4);
		if (!end) return 0;
		if (strncmp(reply, "HTTP/1.1 200", 12) != 0) fail("wrong reply: %.40s", reply);
		const char *field = strcasestr(reply, "\r\ncontent-length:");
		if (!field || field > end) fail("a reply without a length");
		return bytes == (size_t)(end + 4 - reply) + strtoul(field + 17, NULL, 10);
	}
	const char *expected = protocol == REDIS ? "+OK\r\n" : "STORED\r\n";
	if (bytes < strlen(expected)) return 0;
	if (bytes != strlen(expected) || memcmp(reply, expected, bytes) != 0) fail("wrong reply: %.40s", reply);
	return 1;
}

static void record(uint64_t sent_us, uint64_t replied_us)
{
	if (sent_us < measure_from_us) return;
	uint64_t us = replied_us - sent_us;
	histogram[bucket_of(us)]++;
	requests++;
	sum_us += us;
	if (us > max_us) max_us = us;
	if (us < min_us) min_us = us;
}

static void take(struct connection *connection)
{
	size_t room = sizeof connection->reply - 1 - connection->reply_bytes;
	if (room == 0) fail("a reply is too long");
	ssize_t n = recv(connection->fd, connection->reply + connection->reply_bytes, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
	if (n <= 0) fail("connection broken: %s", n == 0 ? "closed" : strerror(errno));
	connection->reply_bytes += (size_t)n;
	connection->reply[connection->reply_bytes] = '\0';
	if (!reply_is_whole(connection)) return;
	record(connection->sent_us, now_us());
	ask(connection);
}

static int open_connection(const struct sockaddr_in *address)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) fail("socket: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) fail("connect: %s", strerror(errno));
	return fd;
}

static int open_all(const struct sockaddr_in *address, int count)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0) fail("epoll: %s", strerror(errno));
	for (int i = 0; i < count; i++) {
		struct connection *connection = &connections[i];
		connection->fd = open_connection(address);
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0) fail("epoll_ctl: %s", strerror(errno));
	}
	return epoll;
}

static void run(int epoll, int count)
{
	struct epoll_event events[EVENTS];
	for (int i = 0; i < count; i++) ask(&connections[i]);
	while (now_us() < end_us) {
		int ready = epoll_wait(epoll, events, EVENTS, 100);
		if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < ready; i++) take(events[i].data.ptr);
	}
}

static enum protocol protocol_named(const char *name)
{
	if (strcmp(name, "redis") == 0) return REDIS;
	if (strcmp(name, "memcached") == 0) return MEMCACHED;
	if (strcmp(name, "http") == 0) return HTTP;
	fail("unknown protocol %s", name);
}

int main(int argc, char **argv)
{
	if (argc != 8) fail("usage: %s ADDRESS PORT PROTOCOL CONNECTIONS WARM_UP_MS DURATION_MS VALUE_BYTES", argv[0]);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
	if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) fail("bad address %s", argv[1]);
	protocol = protocol_named(argv[3]);
	int count = atoi(argv[4]);
	value_bytes = (size_t)atoi(argv[7]);
	if (count < 1 || count > CONNECTIONS_MAX || value_bytes < 1 || value_bytes > VALUE_BYTES_MAX) fail("out of bounds");
	memset(value, 'x', value_bytes);
	int epoll = open_all(&address, count);
	measure_from_us = now_us() + (uint64_t)atoi(argv[5]) * 1000u;
	end_us = measure_from_us + (uint64_t)atoi(argv[6]) * 1000u;
	run(epoll, count);
	double seconds = (double)(now_us() - measure_from_us) / 1e6;
	printf("{\"requests\":%llu,\"seconds\":%.6f,\"avg\":%.3f,\"p50\":%llu,\"p99\":%llu,\"max\":%llu}\n",
	       (unsigned long long)requests, seconds, requests ? (double)sum_us / (double)requests : 0.0,
	       (unsigned long long)percentile(0.5), (unsigned long long)percentile(0.99), (unsigned long long)max_us);
	return requests > 0 ? 0 : 1;
}
