/*
 * TCP sockets of a network namespace that no process has any more: one that ended in the middle of its replay leaves them
 * behind, as nobody acknowledges its FINs, and nothing can be restored between the same ends.
 */
#ifndef FT_RESTORE_ORPHANS_H
#define FT_RESTORE_ORPHANS_H

#include <sys/types.h>

/*
 * In the network namespace of `pid`. What they still had to say, and their resets, go to the interface: nothing of it may
 * leave. How many there were, or -1 with errno.
 */
int orphans_destroy(pid_t pid);

#endif
