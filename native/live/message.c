#include "live/message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

void message_begin(struct handover_message *message, enum handover_kind kind)
{
	memset(message, 0, sizeof *message);
	message->magic = HANDOVER_MAGIC;
	message->version = HANDOVER_VERSION;
	message->kind = (uint16_t)kind;
}

int message_limit(int socket, int timeout_ms)
{
	struct timeval limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
		return -1;
	return setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr aligned;
};

int message_send(int socket, const struct handover_message *message, const void *data, size_t bytes, int fd)
{
	union control control = { 0 };
	struct iovec parts[2] = { { (void *)(uintptr_t)message, sizeof *message }, { (void *)(uintptr_t)data, bytes } };
	struct msghdr packet = { .msg_iov = parts, .msg_iovlen = bytes > 0 ? 2 : 1 };
	if (fd >= 0) {
		packet.msg_control = control.bytes;
		packet.msg_controllen = sizeof control.bytes;
		struct cmsghdr *header = CMSG_FIRSTHDR(&packet);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(header), &fd, sizeof fd);
	}
	ssize_t sent;
	do
		sent = sendmsg(socket, &packet, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent == (ssize_t)(sizeof *message + bytes))
		return 0;
	if (sent >= 0)
		errno = EPROTO;
	else if (errno == EAGAIN)
		errno = ETIMEDOUT;
	return -1;
}

static int take_descriptor(struct msghdr *packet)
{
	int fd = -1;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(packet); header != NULL; header = CMSG_NXTHDR(packet, header))
		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
		    header->cmsg_len == CMSG_LEN(sizeof fd))
			memcpy(&fd, CMSG_DATA(header), sizeof fd);
	return fd;
}

int message_receive(int socket, struct handover_message *message, void *data, size_t room, size_t *bytes, int *fd)
{
	union control control = { 0 };
	struct iovec parts[2] = { { message, sizeof *message }, { data, room } };
	struct msghdr packet = { .msg_iov = parts, .msg_iovlen = data != NULL ? 2 : 1, .msg_control = control.bytes,
				 .msg_controllen = sizeof control.bytes };
	ssize_t got;
	do
		got = recvmsg(socket, &packet, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	*fd = -1;
	if (got < 0) {
		if (errno == EAGAIN)
			errno = ETIMEDOUT;
		return -1;
	}
	*fd = take_descriptor(&packet);
	if (got >= (ssize_t)sizeof *message && (packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
	    message->magic == HANDOVER_MAGIC && message->version == HANDOVER_VERSION) {
		if (bytes != NULL)
			*bytes = (size_t)got - sizeof *message;
		return 0;
	}
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = got == 0 ? ECONNRESET : EPROTO;
	return -1;
}
