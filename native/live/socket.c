#include "live/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef TCPI_OPT_USEC_TS
#define TCPI_OPT_USEC_TS 64
#endif

int socket_option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value);
}

static int option_get(int fd, int level, int name, int *value)
{
	socklen_t length = sizeof *value;
	return getsockopt(fd, level, name, value, &length);
}

static int read_tuple(int fd, struct tuple *out)
{
	struct sockaddr_storage local, remote;
	socklen_t local_length = sizeof local, remote_length = sizeof remote;
	if (getsockname(fd, (struct sockaddr *)&local, &local_length) != 0)
		return -1;
	if (getpeername(fd, (struct sockaddr *)&remote, &remote_length) != 0)
		return errno == ENOTCONN ? 0 : -1;
	const struct sockaddr *sides[] = { (struct sockaddr *)&local, (struct sockaddr *)&remote };
	uint32_t address[2];
	uint16_t port[2];
	for (int i = 0; i < 2; i++) {
		if (sides[i]->sa_family == AF_INET) {
			const struct sockaddr_in *plain = (const struct sockaddr_in *)sides[i];
			address[i] = plain->sin_addr.s_addr;
			port[i] = ntohs(plain->sin_port);
			continue;
		}
		/* A server that listens on [::] has its IPv4 clients as mapped addresses. */
		const struct sockaddr_in6 *mapped = (const struct sockaddr_in6 *)sides[i];
		if (sides[i]->sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&mapped->sin6_addr)) {
			errno = EPROTOTYPE;
			return -1;
		}
		memcpy(&address[i], mapped->sin6_addr.s6_addr + 12, 4);
		port[i] = ntohs(mapped->sin6_port);
	}
	*out = (struct tuple){ address[0], address[1], port[0], port[1] };
	return 1;
}

/* The bytes of a queue, and the sequence number at its end. */
static int read_queue(int fd, int queue, int bytes, uint8_t **out, uint32_t *end)
{
	int sequence;
	*out = NULL;
	if (socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) != 0 ||
	    option_get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence) != 0)
		return -1;
	*end = (uint32_t)sequence;
	if (bytes == 0)
		return 0;
	if (bytes < 0 || bytes > SOCKET_QUEUE_BYTES_MAX || (*out = malloc((size_t)bytes)) == NULL) {
		errno = ENOMEM;
		return -1;
	}
	ssize_t got = recv(fd, *out, (size_t)bytes, MSG_PEEK | MSG_DONTWAIT);
	if (got == bytes)
		return 0;
	if (got >= 0)
		errno = EPROTO;
	return -1;
}

static int read_all(int fd, struct socket_state *out)
{
	struct tcp_info info = { 0 };
	socklen_t info_length = sizeof info, window_length = sizeof out->window;
	int unread, unacknowledged, mss, timestamp = 0;
	if (ioctl(fd, SIOCINQ, &unread) != 0 || ioctl(fd, SIOCOUTQ, &unacknowledged) != 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_length) != 0 ||
	    option_get(fd, IPPROTO_TCP, TCP_MAXSEG, &mss) != 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &out->window, &window_length) != 0)
		return -1;
	out->state = info.tcpi_state;
	out->wscale = (info.tcpi_options & TCPI_OPT_WSCALE) != 0;
	out->sack = (info.tcpi_options & TCPI_OPT_SACK) != 0;
	out->timestamps = (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
	out->send_wscale = out->wscale ? info.tcpi_snd_wscale : 0;
	out->receive_wscale = out->wscale ? info.tcpi_rcv_wscale : 0;
	out->mss = (uint16_t)mss;
	if (out->timestamps && option_get(fd, IPPROTO_TCP, TCP_TIMESTAMP, &timestamp) != 0)
		return -1;
	out->timestamp = (uint32_t)timestamp;
	out->microseconds = (info.tcpi_options & TCPI_OPT_USEC_TS) != 0;
	out->remote_fin = info.tcpi_state == TCP_CLOSE_WAIT || info.tcpi_state == TCP_LAST_ACK ||
			  info.tcpi_state == TCP_CLOSING || info.tcpi_state == TCP_TIME_WAIT;
	out->local_fin = info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_FIN_WAIT2 ||
			 info.tcpi_state == TCP_LAST_ACK || info.tcpi_state == TCP_CLOSING;
	/* The kernel counts a FIN that it has sent, and one that has not been acknowledged yet in SIOCOUTQ. */
	bool fin_waits = out->local_fin && info.tcpi_state != TCP_FIN_WAIT2;
	if (fin_waits && unacknowledged > 0)
		unacknowledged--;
	uint32_t send_end;
	if (read_queue(fd, TCP_RECV_QUEUE, unread, &out->unread, &out->receive_next) != 0 ||
	    read_queue(fd, TCP_SEND_QUEUE, unacknowledged, &out->unacknowledged, &send_end) != 0 ||
	    socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE) != 0)
		return -1;
	out->unread_bytes = (uint32_t)unread;
	out->unacknowledged_bytes = (uint32_t)unacknowledged;
	out->receive_next -= out->remote_fin ? 1 : 0;
	out->send_unacknowledged = send_end - (fin_waits ? 1 : 0) - (uint32_t)unacknowledged;
	return 0;
}

int socket_read(int fd, struct socket_state *out)
{
	int kind, protocol;
	memset(out, 0, sizeof *out);
	if (option_get(fd, SOL_SOCKET, SO_TYPE, &kind) != 0 || option_get(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) != 0 ||
	    kind != SOCK_STREAM || protocol != IPPROTO_TCP) {
		errno = EPROTOTYPE;
		return -1;
	}
	if (option_get(fd, SOL_SOCKET, SO_REUSEADDR, &out->reuse) != 0)
		return -1;
	int connected = read_tuple(fd, &out->tuple);
	if (connected <= 0)
		return connected;
	out->connected = true;
	if (socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) != 0)
		return -1;
	if (read_all(fd, out) == 0)
		return 1;
	int error = errno;
	socket_free(out);
	errno = error;
	return -1;
}

void socket_free(struct socket_state *state)
{
	free(state->unread);
	free(state->unacknowledged);
	state->unread = state->unacknowledged = NULL;
}

int socket_disconnect(int fd)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	int error;
	if (socket_option_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) != 0 ||
	    connect(fd, &nowhere, sizeof nowhere) != 0)
		return -1;
	/* In repair mode that leaves ECONNABORTED, which the application must not find. */
	return option_get(fd, SOL_SOCKET, SO_ERROR, &error);
}
