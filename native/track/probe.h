/* What the probes of the kernel share. */
#ifndef FT_TRACK_PROBE_H
#define FT_TRACK_PROBE_H

#include <stddef.h>

/* Says why: `what`, and errno's text. Gives errno, EPROTO if it is 0. */
int probe_failed(char *why, size_t size, const char *what);

#endif
