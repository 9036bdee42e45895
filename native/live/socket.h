/*
 * The state of a TCP socket as the kernel has it, read through TCP_REPAIR: of a socket that CRIU has restored, before the
 * connection goes on from where the log ends. Reading it puts the socket into repair mode for good: nothing is sent
 * from it any more, not even when it is closed. Needs CAP_NET_ADMIN in the socket's network namespace.
 */
#ifndef FT_LIVE_SOCKET_H
#define FT_LIVE_SOCKET_H

#include <netinet/tcp.h>

#include "live/connection.h"

enum { SOCKET_QUEUE_BYTES_MAX = 256 << 20 };

struct socket_state {
	struct tuple tuple;
	int state; /* TCP_ESTABLISHED… */
	bool connected; /* else only what stands above it and `reuse` are of use */
	int reuse; /* SO_REUSEADDR, which repair mode takes away */
	bool wscale, sack, timestamps, remote_fin, local_fin;
	uint8_t send_wscale, receive_wscale;
	uint16_t mss;
	uint32_t receive_next; /* of bytes; a FIN is not counted */
	uint32_t send_unacknowledged;
	uint32_t timestamp;
	bool microseconds; /* are what its timestamps count */
	struct tcp_repair_window window;
	uint8_t *unread, *unacknowledged;
	uint32_t unread_bytes, unacknowledged_bytes;
};

/*
 * 1: read; 0: it is a TCP socket that is not connected (a placeholder); -1 with errno, EPROTOTYPE when it is no TCP socket
 * or one of IPv6 proper. Then socket_free().
 */
int socket_read(int fd, struct socket_state *out);
void socket_free(struct socket_state *state);
/* From any state to closed and unbound, without a frame. The application's options stay. */
int socket_disconnect(int fd);

int socket_option_set(int fd, int level, int name, int value);

#endif
