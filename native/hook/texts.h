/*
 * Of each thread CRIU reads its cgroups, one file a thread, and each takes the kernel as long as ten other questions. The second
 * thread reads them beside CRIU, once the tasks stand, into files of memory; CRIU is given one of those in place of the kernel's.
 * Nobody but a process outside can move a task that stands, and CRIU would not see it either if that came a moment later.
 *
 * Invariants:
 *  - All of it is read after the tasks stand.
 *  - A text is written by the second thread before it is marked as done, and by nobody after; it is given once.
 */
#ifndef FT_HOOK_TEXTS_H
#define FT_HOOK_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Before the freeze. False: none is given. */
bool texts_prepare(pid_t target);
/* The tasks stand: reads those of `count` threads. By any thread, once. */
void texts_read(const pid_t *thread, size_t count);
/* In place of openat(directory, "task/N/cgroup"): a descriptor, or -1 for one that is not known. */
int texts_open(int directory, const char *path, int flags);
/* Whether all were read. */
bool texts_whole(void);

#endif
