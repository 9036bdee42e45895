/* All of it, from and to the library's own files: by the kernel's calls, as read() and write() are the library's own here. */
#ifndef FT_HOOK_WHOLE_H
#define FT_HOOK_WHOLE_H

#include <stdbool.h>
#include <stddef.h>

/* False: not all, errno says why where it is not the end of the file. */
bool whole_read(int fd, void *room, size_t length);
bool whole_write(int fd, const void *bytes, size_t length);

#endif
