/*
 * The late freeze: CRIU reads what it can while the tasks still run, and they are stopped when it first needs them to stand
 * still. CRIU believes that it stopped them at the beginning: until then its PTRACE_SEIZE and PTRACE_INTERRUPT are noted, and
 * what it asks about the stop is answered here.
 *
 * So the frozen time has no part in listing threads, sockets, seccomp filters, memory areas and their files. In return all that was
 * read is compared with what is there once the tasks stand, in between (hook/witness.h, hook/diag.h, hook/filters.h).
 * If anything has moved, the dump ends before a page is read, and ftdump takes it again with an early freeze.
 *
 * For one process with its threads. CRIU 4.2.1 needs a stopped task first at PTRACE_PEEKSIGINFO, after it has read the areas.
 *
 * Invariants:
 *  - Every task that CRIU takes for stopped is stopped before CRIU touches it: any request that is not answered here stops them.
 *  - Nothing is read before the freeze but what is compared after it.
 *  - No page is read, and no area's write marks are, before all has been compared and found the same.
 */
#ifndef FT_HOOK_LATE_H
#define FT_HOOK_LATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Instead of a freeze. False: what it takes cannot be had, freeze now. */
bool late_begin(void);
/* True: answered, *result and errno say what. False: the tasks are stopped now, and the request is for the kernel. */
bool late_ptrace(int request, pid_t pid, void *address, void *data, long *result);
/* While the tasks run: as wait4() for a task that CRIU takes for stopped. */
bool late_wait(pid_t pid, int *status);
/* Stops the tasks, as CRIU is about to read what could not be compared. */
void late_freeze(void);
/* Whether this dump's freeze is, or was, late. */
bool late_is_on(void);
/* The gate is marked: what packets could change is compared from now on, beside CRIU. */
void late_marked(void);
/* CRIU talks to its parasite: the tasks' memory may be looked through. */
void late_infected(void);
/* Waits until all is compared and pages are scanned. False: something has moved, the dump must fail. */
bool late_settle(void);

#endif
