/* The names of what shortens the frozen time (hook/message.h), for options and answers. */
#ifndef FT_DUMP_SHORTCUTS_H
#define FT_DUMP_SHORTCUTS_H

#include <stddef.h>
#include <stdint.h>

/* Its bit, or 0 for an unknown name. */
uint32_t shortcut_called(const char *name);
/* "pages,smaps"; empty for none. */
void shortcuts_list(uint32_t shortcuts, char *out, size_t size);

#endif
