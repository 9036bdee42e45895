/*
 * Which sockets there are, as CRIU hears it from the kernel (sock_diag) while the tasks still run (hook/late.h), and whether
 * it is still so once they stand and the gate is marked. Each question is asked again on a copy of CRIU's own socket.
 *
 * The kernel goes through all of its table to list TCP sockets, which may have a quarter of a million places. So where few are the
 * process's own, each of those is asked for by itself, and all others do not matter to CRIU.
 *
 * Left out of the comparison: timers, and how much of a connection is queued, which CRIU asks of the socket itself.
 */
#ifndef FT_HOOK_DIAG_H
#define FT_HOOK_DIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* CRIU has opened a netlink socket for sock_diag. */
void diag_opened(int fd);
/* CRIU asks, and hears. */
void diag_asked(int fd, const struct msghdr *message);
void diag_heard(int fd, const struct msghdr *message, ssize_t length);
/* NULL: all is as CRIU heard it; else what is not. Sockets of this host before CRIU makes its own, the others when the gate is marked. */
const char *diag_check_local(void);
const char *diag_check_inet(const uint32_t *own, ssize_t count); /* inodes of the process's sockets; negative: not known */

/* Pure: makes zero of what is not compared in a reply's messages, and leaves out the last, which says that it ends. Its length then. */
size_t diag_normalize(int family, unsigned char *bytes, size_t length);

#endif
