/* The TLS half of a link; link.c calls it. */
#ifndef FT_SHIP_LINK_TLS_H
#define FT_SHIP_LINK_TLS_H

#include "ship/link.h"

int link_tls_context(struct link_settings *settings, const char **why);
void link_tls_context_free(struct link_settings *settings);
int link_tls_begin(struct link *link);
/* 1: done. 0: not yet. -1 and *why. */
int link_tls_greet(struct link *link, const char **why);
ssize_t link_tls_write(struct link *link, const void *bytes, size_t length);
ssize_t link_tls_read(struct link *link, void *bytes, size_t length, const char **why);
void link_tls_end(struct link *link);

#endif
