/* The libc's sockets, in the CRIU process: what leaves repair mode, and when. */
#include "hook/hook.h"

#include "hook/descriptors.h"
#include "hook/diag.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef TCP_REPAIR_OFF_NO_WP
#define TCP_REPAIR_OFF_NO_WP (-1)
#endif

/* The client has had more than what is sent of it: its own window, which is set a moment later, was as wide. */
enum { SEND_WINDOW_BYTES = 64 << 20 };

int socket(int domain, int type, int protocol)
{
	hook_await_mark();
	int fd = (int)syscall(SYS_socket, domain, type, protocol);
	if (hook.stage == STAGE_READING && domain == AF_NETLINK && protocol == NETLINK_SOCK_DIAG && fd >= 0)
		diag_opened(fd);
	return fd;
}

static int plain_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	return (int)syscall(SYS_setsockopt, fd, level, name, value, length);
}

/*
 * CRIU leaves repair mode to send what was unsent, and sets the peer's window only afterwards. With the window of
 * zero that a repaired socket starts with, the kernel would put the data off to its probe timer, a second later.
 */
static void open_send_window(int fd)
{
	struct tcp_repair_window window;
	socklen_t length = sizeof window;
	if (syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &length) != 0 || window.snd_wnd != 0)
		return;
	window.snd_wl1 = window.rcv_wup;
	window.snd_wnd = SEND_WINDOW_BYTES;
	if (window.max_window < window.snd_wnd)
		window.max_window = window.snd_wnd;
	(void)plain_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window); /* then it is only late */
}

/*
 * A socket in repair mode whose queue for sending is selected does not transmit: what a timer of the kernel's would send
 * is only marked as sent, and is lost until a retransmission. CRIU selects that queue to read it and leaves it so to the
 * end of the freeze. So the selection ends with the reading; what is then sent is output of the next epoch, and held.
 */
ssize_t recv(int fd, void *bytes, size_t room, int flags)
{
	ssize_t got = syscall(SYS_recvfrom, fd, bytes, room, flags, NULL, NULL);
	static const int no_queue = 0; /* TCP_NO_QUEUE */
	int error = errno, repair = 0;
	socklen_t length = sizeof repair;
	if ((flags & MSG_PEEK) && syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_REPAIR, &repair, &length) == 0 && repair == 1)
		(void)plain_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &no_queue, sizeof no_queue); /* then it is only late */
	errno = error;
	return got;
}

/*
 * The kernel computes what fits into a segment when a socket connects; in repair mode the options of the connection come
 * only after that, so it would send segments of 524 bytes for ever. Setting the IP options to what they are computes it again.
 */
static void renew_segment_size(int fd)
{
	unsigned char options[40];
	socklen_t length = sizeof options;
	if (syscall(SYS_getsockopt, fd, IPPROTO_IP, IP_OPTIONS, options, &length) == 0)
		(void)plain_setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, length); /* then it is only slow */
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	int result;
	if (hook.stage == STAGE_FROZEN && descriptors_option(fd, level, name, value, length, &result))
		return result;
	return (int)syscall(SYS_getsockopt, fd, level, name, value, length);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	descriptors_closed(fd);
	static const int quietly = TCP_REPAIR_OFF_NO_WP;
	int wanted = -1;
	if (level == IPPROTO_TCP && name == TCP_REPAIR_OPTIONS && hook.send_window) {
		int result = plain_setsockopt(fd, level, name, value, length);
		int error = errno;
		if (result == 0)
			renew_segment_size(fd);
		errno = error;
		return result;
	}
	if (level == IPPROTO_TCP && name == TCP_REPAIR && length == sizeof wanted)
		memcpy(&wanted, value, sizeof wanted);
	if (wanted == 0 && hook.send_window)
		open_send_window(fd);
	if (wanted == 0 && hook.no_probe)
		value = &quietly;
	return plain_setsockopt(fd, level, name, value, length);
}
