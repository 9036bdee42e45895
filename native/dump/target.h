/* Which process is the application: ftinit knows. */
#ifndef FT_DUMP_TARGET_H
#define FT_DUMP_TARGET_H

#include <stddef.h>
#include <sys/types.h>

#include "enter/enter.h"

/* -1 with errno (ESRCH: it is not running) and a sentence in `detail`. */
int target_find(const struct enter_container *container, pid_t *inside, pid_t *host, char *detail, size_t size);

/* One request to ftinit over `fd`, one reply into `reply` (a line, without its newline). -1 with errno. */
int target_ask(int fd, const char *request, char *reply, size_t size);

#endif
