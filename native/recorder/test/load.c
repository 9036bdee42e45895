/*
 * Load for the recorder's tests: many connections, one request in flight on each, from a seed.
 *
 *   recorder-load memcached|redis|echo|http PORT CONNECTIONS MILLISECONDS [SEED]
 *
 * Prints "N operations, R a second". A connection that is closed is not opened again (but with
 * http, once, at once); when all are, it ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, REPLY_BYTES = 65536 };

enum protocol { MEMCACHED, REDIS, ECHO_LINES, HTTP };
enum { HTTP_FILES = 16 }; /* N.txt holds "N" and a newline N * 400 times over */

struct connection {
	char reply[REPLY_BYTES];
	size_t reply_bytes;
	bool wants_value;
	unsigned file;
	char sent[256];
};

static uint64_t seed = 88172645463325252ull;
static enum protocol protocol;
static bool misses; /* one request in ten asks for a file that is not there */

static uint64_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static int request(struct connection *c)
{
	unsigned key = (unsigned)(random_next() % 2000), what = (unsigned)(random_next() % 10);
	uint64_t value = random_next();
	c->wants_value = false;
	if (protocol == ECHO_LINES)
		return snprintf(c->sent, sizeof c->sent, "%016llx %u\n", (unsigned long long)value, key);
	if (protocol == HTTP) {
		c->file = misses && what == 0 ? 0 : 1 + key % HTTP_FILES;
		return snprintf(c->sent, sizeof c->sent, "GET /%u.txt HTTP/1.1\r\nHost: test\r\n\r\n", c->file);
	}
	if (protocol == REDIS) {
		if (what < 4)
			return snprintf(c->sent, sizeof c->sent, "SET key:%u %016llx\r\n", key, (unsigned long long)value);
		if (what < 5)
			return snprintf(c->sent, sizeof c->sent, "INCR counter:%u\r\n", key % 50);
		c->wants_value = true;
		return snprintf(c->sent, sizeof c->sent, "GET key:%u\r\n", key);
	}
	if (what < 4)
		return snprintf(c->sent, sizeof c->sent, "set key%u 0 0 16\r\n%016llx\r\n", key, (unsigned long long)value);
	if (what < 5)
		return snprintf(c->sent, sizeof c->sent, "delete key%u\r\n", key);
	c->wants_value = true;
	return snprintf(c->sent, sizeof c->sent, "get key%u\r\n", key);
}

static size_t http_file_bytes(unsigned file) { return (size_t)file * 400 * (file > 9 ? 3 : 2); }

static bool is_whole_http(const struct connection *c)
{
	const char *body = memmem(c->reply, c->reply_bytes, "\r\n\r\n", 4);
	const char *length = c->file == 0 ? memmem(c->reply, c->reply_bytes, "Content-Length: ", 16) : NULL;
	if (c->file == 0)
		return body != NULL && length != NULL && c->reply_bytes >= (size_t)(body + 4 - c->reply) + (size_t)atol(length + 16);
	return body != NULL && c->reply_bytes >= (size_t)(body + 4 - c->reply) + http_file_bytes(c->file);
}

/* Status, length and every byte. */
static bool is_right_http(const struct connection *c)
{
	char line[8];
	if (c->file == 0)
		return memcmp(c->reply, "HTTP/1.1 404", 12) == 0;
	size_t bytes = http_file_bytes(c->file), of_line = (size_t)snprintf(line, sizeof line, "%u\n", c->file);
	const char *body = c->reply + c->reply_bytes - bytes;
	bool right = memcmp(c->reply, "HTTP/1.1 200", 12) == 0 && memcmp(body - 4, "\r\n\r\n", 4) == 0;
	for (size_t i = 0; right && i < bytes; i++)
		right = body[i] == line[i % of_line];
	return right;
}

static bool is_whole(const struct connection *c)
{
	size_t n = c->reply_bytes;
	if (n == 0 || c->reply[n - 1] != '\n')
		return false;
	if (protocol == HTTP)
		return is_whole_http(c);
	if (!c->wants_value)
		return true;
	if (protocol == REDIS)
		return memcmp(c->reply, "$-1", 3) == 0 || (memchr(c->reply, '\n', n - 1) != NULL);
	return n >= 5 && memcmp(c->reply + n - 5, "END\r\n", 5) == 0;
}

static bool send_next(int fd, struct connection *c)
{
	int bytes = request(c);
	c->reply_bytes = 0;
	return send(fd, c->sent, (size_t)bytes, MSG_NOSIGNAL) == bytes;
}

static int connect_to(int port, int tries_max)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	for (int tries = 0; tries < tries_max; tries++) {
		if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
			return fd;
		usleep(20000);
	}
	close(fd);
	return -1;
}

static int bad(const char *what, const struct connection *c)
{
	fprintf(stderr, "load: %s: sent %s got %.*s\n", what, c->sent, (int)c->reply_bytes, c->reply);
	return 1;
}

int main(int argc, char **argv)
{
	static struct connection connections[CONNECTIONS_MAX];
	static struct pollfd fds[CONNECTIONS_MAX];
	if (argc < 5)
		return 2;
	protocol = strcmp(argv[1], "redis") == 0 ? REDIS : strcmp(argv[1], "echo") == 0 ? ECHO_LINES : strncmp(argv[1], "http", 4) == 0 ? HTTP : MEMCACHED;
	misses = strcmp(argv[1], "http-missing") == 0;
	int count = atoi(argv[3]) < CONNECTIONS_MAX ? atoi(argv[3]) : CONNECTIONS_MAX, open = 0;
	if (argc > 5)
		seed ^= (uint64_t)atol(argv[5]) * 0x9e3779b97f4a7c15ull;
	for (int i = 0; i < count; i++) {
		fds[i] = (struct pollfd){.fd = connect_to(atoi(argv[2]), 100), .events = POLLIN};
		if (fds[i].fd < 0)
			return 1;
	}
	uint64_t began = now_ms(), operations = 0, until = began + (uint64_t)atol(argv[4]);
	for (int i = 0; i < count; i++)
		open += send_next(fds[i].fd, &connections[i]);
	while (open > 0 && now_ms() < until) {
		if (poll(fds, (nfds_t)count, 100) <= 0)
			continue;
		for (int i = 0; i < count; i++) {
			struct connection *c = &connections[i];
			if (fds[i].fd < 0 || fds[i].revents == 0)
				continue;
			ssize_t got = recv(fds[i].fd, c->reply + c->reply_bytes, sizeof c->reply - c->reply_bytes, 0);
			if (got > 0)
				c->reply_bytes += (size_t)got;
			if (got > 0 && !is_whole(c))
				continue;
			if (got > 0 && protocol == ECHO_LINES && (c->reply_bytes != strlen(c->sent) || memcmp(c->reply, c->sent, c->reply_bytes)))
				return bad("not what was sent", c);
			if (got > 0 && protocol == HTTP && !is_right_http(c))
				return bad("another file", c);
			operations += got > 0;
			if (got <= 0 || !send_next(fds[i].fd, c)) {
				close(fds[i].fd);
				/* A worker that is replaced closes its connections. */
				fds[i].fd = protocol == HTTP ? connect_to(atoi(argv[2]), 1) : -1;
				if (fds[i].fd >= 0 && send_next(fds[i].fd, c))
					continue;
				if (fds[i].fd >= 0)
					close(fds[i].fd);
				fds[i].fd = -1;
				open--;
			}
		}
	}
	uint64_t took = now_ms() - began;
	printf("%llu operations, %llu a second\n", (unsigned long long)operations,
	       (unsigned long long)(operations * 1000 / (took > 0 ? took : 1)));
	return 0;
}
