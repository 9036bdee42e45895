/*
 * CRIU moves memory from its pipes into the image by a splice for each run of pages. Here CRIU is told that it is done,
 * runs of the same pipe become one, and the helper does it, beside CRIU.
 *
 * The pages in a pipe are the tasks' own, not copies: all must have been moved before a task runs again, and before
 * the pipe is filled again. CRIU may close both ends: we have our own, of both, as the last end to be closed waits for whoever moves.
 */
#ifndef FT_HOOK_SPLICES_H
#define FT_HOOK_SPLICES_H

#include <stdbool.h>
#include <sys/types.h>

/* An image was opened: only the ones of pages are spliced this way. */
void splices_image(const char *name, int fd);
void splices_closed(int fd);
/* CRIU has made a pipe. */
void splices_piped(int from, int to);
/* False: not one of ours, to be done as it is. */
bool splices_take(int from, int to, size_t length);
/* Waits for all. False when one failed, now or earlier: then the image is not whole. */
bool splices_finish(void);
/* As far as is known: none has failed yet. */
bool splices_whole(void);

#endif
