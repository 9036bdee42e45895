/*
 * Makes a process create a userfaultfd and gives it to us; the process keeps nothing of it. x86-64.
 *
 * Its first thread is stopped for a fraction of a millisecond and made to run two system calls, userfaultfd and close, from an
 * instruction of its vDSO. Nothing is written into its memory. A process of its own does it, which ends when the thread is as
 * it was: if ftdump is killed meanwhile, that process goes on to the end.
 */
#ifndef FT_TRACK_INJECT_H
#define FT_TRACK_INJECT_H

#include <sys/types.h>

/* The descriptor, close-on-exec, before UFFDIO_API; or -1 with errno (ENOSYS: not on this machine; ETIMEDOUT: it did not stop). */
int inject_userfaultfd(pid_t pid);

#endif
