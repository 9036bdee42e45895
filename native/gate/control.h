/* The control socket: a bounded number of local, privileged connections that speak the line protocol. */
#ifndef FT_GATE_CONTROL_H
#define FT_GATE_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "line/line.h"

#define CONTROL_CONNECTIONS_MAX 16
#define CONTROL_BACKLOG_BYTES_MAX 65536 /* unread by the other side: then it is cut off */

struct connection {
	int fd; /* -1: free */
	uint64_t id; /* never used twice */
	bool subscribed;
	bool ended; /* cut off or closed; cleaned up at the end of the turn */
	struct line_reader in;
	size_t out_length;
	char out[CONTROL_BACKLOG_BYTES_MAX];
};

struct control {
	int listen_fd;
	int lock_fd;
	int epoll_fd;
	uint64_t next_id;
	struct connection connection[CONTROL_CONNECTIONS_MAX];
};

struct gate;

/* Makes the socket; -1 with errno. EADDRINUSE: another gate has it. */
int control_open(struct control *control, const char *path, int epoll_fd);
void control_close(struct control *control, const char *path);
/* Events of epoll: a new connection, or `slot` is ready. */
void control_accept(struct control *control);
void control_ready(struct gate *gate, unsigned slot, uint32_t events);
/* Frees what ended in this turn. */
void control_sweep(struct gate *gate);
void control_send(struct control *control, struct connection *connection, const struct line_writer *line);
void control_broadcast(struct control *control, const struct line_writer *line);
struct connection *control_find(struct control *control, uint64_t id);

#endif
