/*
 * Of every socket CRIU asks some thirty options, and reads its entry in /proc/PID/fdinfo. The second thread asks the same beside
 * CRIU, from the last one on, while CRIU comes from the first: of the same open file, by a descriptor that pidfd_getfd() gives, once the tasks stand. What
 * it has when CRIU asks is CRIU's answer, and what it has not, or was asked otherwise, CRIU asks the kernel itself.
 *
 * Only of options that nobody but a task sets, and none of those that packets change: the sizes of buffers, and all that TCP
 * has to say of its connection. A socket is known by its inode, as it is to CRIU.
 *
 * Invariants:
 *  - All of it is asked after the tasks stand, and answered before one runs again.
 *  - CRIU's descriptor is answered for from the fstat() that shows which socket it is until it is closed or set anything.
 *  - An entry is written by the second thread before it is marked as done, and by nobody after.
 */
#ifndef FT_HOOK_DESCRIPTORS_H
#define FT_HOOK_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Before the freeze: room, made present. */
bool descriptors_prepare(pid_t target);
/* The tasks stand: looks at all in `names`, of `length` bytes with a zero after each, as in /proc/PID/fd. By any thread, once. */
void descriptors_list(const char *names, size_t length);
/*
 * Asks the sockets among them, the last one first, up to where CRIU has come from the other end. By any thread, once. The first `left` sockets
 * are left to CRIU, which would be there before their answers are.
 */
void descriptors_ask(size_t left);
/* The inodes of all sockets among them, once they are listed; -1: more than `max`, or not all could be looked at. */
ssize_t descriptors_sockets(uint32_t *inode, size_t max);

/* CRIU has looked at one of its descriptors. */
void descriptors_seen(int fd, const struct stat *found);
/* False: not known, to be asked. */
bool descriptors_option(int fd, int level, int name, void *value, socklen_t *length, int *result);
/* In place of openat(directory, "fdinfo/N"): a descriptor to be read by descriptors_text() alone, or -1. */
int descriptors_open(int directory, const char *path, int flags);
bool descriptors_text(int fd, void *room, size_t size, ssize_t *got);
/* It is closed, or about to be changed. */
void descriptors_closed(int fd);
/* Whether all were looked at. */
bool descriptors_whole(void);

#endif
