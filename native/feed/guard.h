/*
 * What makes sure that nobody ever reads zeros in place of memory that did not come. When the last descriptor of a userfaultfd is
 * closed, the kernel lets every thread go on, and what is missing reads as zero. So the descriptors are held by two processes with one
 * table of descriptors between them: the feeder, which gives the memory, and the guard, which waits for it to end, and unless it ended
 * well kills the application, and closes them only when that is gone.
 *
 * A feeder that hangs would leave every thread that asks for memory waiting. So it counts its turns where the guard can see them, and if
 * that number stands still it is killed, and what follows is the same.
 *
 * Invariants: both ignore every signal that can be ignored, and are no victims when memory runs out; either ends the
 * application if the other ends too early.
 */
#ifndef FT_FEED_GUARD_H
#define FT_FEED_GUARD_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Hardens the calling process, and what it starts from now on. */
void guard_harden(void);
/* Starts a process that shares our descriptors. 0 in it, its pid here, -1 with errno. *pidfd is of the caller, for the new one to watch. */
pid_t guard_split(int *pidfd);
/* Waits for the feeder's end, kills it if it hangs; *hung says so. Its wait status. */
int guard_watch(pid_t feeder, const _Atomic uint64_t *turns, unsigned looks_max, bool *hung);
/*
 * Kills all that runs in a pid namespace but its first process, and returns when nothing of it is left: at once, and nothing can be
 * forked meanwhile. 0, or -1 with errno if the namespace cannot be entered.
 */
int guard_end_application(int pid_namespace);
#endif
