/*
 * Seccomp filters can be asked for only while a task stands still. They are the same from dump to dump: a thread can add one,
 * never change or lose one. So those of the last dump are kept in a file beside the logs and answer CRIU before a late
 * freeze (hook/late.h), as long as the thread is the same and has as many.
 *
 * Invariant: an answer is given for a thread whose start time and whose number of filters are those of the answer; both
 * are compared again in the freeze (hook/witness.h compares the number).
 */
#ifndef FT_HOOK_FILTERS_H
#define FT_HOOK_FILTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What the last dump has left. Nothing, if it cannot be read or is not whole. */
void filters_load(void);
/* True: *result and errno are what ptrace(request) would give. */
bool filters_answer(int request, pid_t tid, void *address, void *data, long *result);
/* What ptrace() has said of a stopped thread. */
void filters_note(int request, pid_t tid, void *address, const void *data, long result, int error);
/* With the tasks stopped: whether those that were answered for are still the same. */
bool filters_same(void);
/* With the tasks running again: keeps what was noted, if there is more than there was. */
void filters_save(void);

#endif
