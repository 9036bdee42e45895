/*
 * A deterministic service and its self-verifying clients, as processes of their own. Every byte of every connection is
 * known by its position, so the service's state is a few numbers (in shared memory, as if a replay had led to them),
 * and its output can be made again from any position.
 */
#ifndef FT_LIVE_TEST_SERVICE_H
#define FT_LIVE_TEST_SERVICE_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "live/take.h"

#define SERVICE_PORT 7007
enum { SERVED_MAX = 128, PUSH_BYTES = 3 << 20 };

enum served_kind { SERVED_ECHO = 'e', SERVED_PUSH = 'p' };

struct served { /* what the service's memory would hold */
	bool used, eof, shut, closed;
	char kind;
	uint16_t port; /* the client's, host order: names the connection */
	struct in_addr address;
	uint64_t read, written;
};

struct dialled { /* a client's side */
	bool idle, slow, early_shut, late;
	char kind;
	uint64_t bytes;
	_Atomic int state; /* 0 under way, 1 done, -1 failed */
	_Atomic uint64_t got, first_after_ns;
	uint16_t port;
	char why[96];
};

struct stage {
	_Atomic int stop, stopped, accept_off, late, go, live_failed, server_bad;
	_Atomic uint64_t rebuild_ns, live_us;
	char server_why[96];
	uint32_t served_count, dialled_count;
	struct served served[SERVED_MAX], before[SERVED_MAX]; /* before: at the checkpoint */
	struct dialled dialled[SERVED_MAX];
};

uint64_t now_ns(void);
void served_output(const struct served *one, uint64_t from, void *room, size_t bytes);

/* Never return. Both have a descriptor of every socket already where they need one: -1 for connections that are closed. */
void service_run(struct stage *stage, int listener, int *fds, int epoll, bool edge, unsigned seed, struct live *live)
	__attribute__((noreturn));
void clients_run(struct stage *stage, int netns, const char *address, unsigned seed) __attribute__((noreturn));
int service_watch(int epoll, int fd, uint32_t number, bool edge);
#define LISTENER_NUMBER 1000000u

#endif
