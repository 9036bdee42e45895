/*
 * Reading /proc/PID/smaps walks all page tables. CRIU takes each area's first line and its flags from it, after it has
 * asked for the sockets: in that time the helper reads the same file, of the same stopped task, and leaves out the rest.
 */
#ifndef FT_HOOK_SMAPS_H
#define FT_HOOK_SMAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Before the freeze. False: not possible. */
bool smaps_prepare(pid_t pid);
/* All tasks are stopped: reading begins. */
void smaps_begin(void);
/* In place of openat(directory, "smaps"): a descriptor, or -1 when it is another task's, or was not read. */
int smaps_open(int directory, const char *path);

/* Whether it was put together from what is known of flags (hook/flags.h). */
bool smaps_composed(void);
/* After the thaw: what was read of flags is known from now on. */
void smaps_learn(void);

/* What CRIU reads of it, in place; returns the new length. Pure. */
size_t smaps_filter(char *text, size_t length);

#endif
