/*
 * A process may be restored before its memory is there (native/feed). A thread that waits for a page sleeps in the kernel like one in
 * a call, and from here they cannot be told apart; so while anything is missing nobody is taken to be settled, and no replay to stall:
 * whoever gives the memory is watched itself, and ends the process rather than leave it waiting.
 */
#include "recorder/real.h"
#include "recorder/replay.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define NOTICE "ftctl-feed" /* native/feed/notice.c */

bool ft_memory_is_missing(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path + 1, NOTICE, sizeof NOTICE - 1);
	long fd = ft_syscall(SYS_socket, (long)AF_UNIX, (long)(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), 0L);
	if (fd < 0)
		return true;
	long connected = ft_syscall(SYS_connect, fd, &address, (long)(offsetof(struct sockaddr_un, sun_path) + sizeof NOTICE));
	int error = errno;
	ft_syscall(SYS_close, fd);
	return connected == 0 || error != ECONNREFUSED;
}
