/*
 * One thread beside CRIU's, for work that the frozen tasks need not wait for in CRIU's order: it runs on the core that
 * they have just left. Only CRIU's own thread calls these functions.
 */
#ifndef FT_HOOK_HELPER_H
#define FT_HOOK_HELPER_H

#include <stdbool.h>
#include <stddef.h>

struct job {
	void (*run)(const struct job *job);
	int from, to;
	size_t length;
};

/* Once, before anything is frozen. False: there is no helper, and no job is taken. */
bool helper_start(void);
/* False: not taken, the caller does it himself. */
bool helper_post(const struct job *job);
/* Adds to the job that was posted last, if that is of the same kind and ends and has not begun. */
bool helper_extend(const struct job *more);
/* Returns when nothing is left to be done; what the helper has not begun is done here. */
void helper_finish(void);

#endif
