/*
 * The image of the pages is made before the freeze and its memory set aside, so that while the tasks are frozen pages
 * are only copied: on a tmpfs getting a page costs more than filling it. What is left over is given back afterwards.
 */
#ifndef FT_HOOK_PAGES_H
#define FT_HOOK_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* False: there is no room, or no such directory; nothing is prepared then. */
bool pages_prepare(int directory, const char *name, size_t bytes);
/* A descriptor in place of the open() of a new image, or -1: not the one that is prepared. */
int pages_open(int directory, const char *name, int flags);
/* After the thaw. False: the image is not what CRIU wrote. */
bool pages_trim(void);

#endif
