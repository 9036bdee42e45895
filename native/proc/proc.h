/* Texts of /proc, which have no size before they are read and come in pieces. */
#ifndef FT_PROC_H
#define FT_PROC_H

#include <sys/types.h>

/*
 * The text's length, or -1 with errno (ESRCH: the process has ended between open and read). Always ends with a zero;
 * what does not fit into `size` is left out.
 */
ssize_t proc_text(const char *path, char *text, size_t size);

#endif
