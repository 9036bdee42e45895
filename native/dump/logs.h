/* CRIU's log files: what they say about a failure, and how many are kept. */
#ifndef FT_DUMP_LOGS_H
#define FT_DUMP_LOGS_H

#include <stddef.h>

/* The lines with "Error (" in `text`, first and last ones if they do not all fit, separated by newlines. Pure. */
void logs_errors(const char *text, size_t length, char *out, size_t size);
/* The same of a file; empty if it cannot be read. */
void logs_quote(int directory, const char *name, char *out, size_t size);
/* Keeps the last `keep` of dump-*.log, and as many of fail-*.log. */
int logs_prune(int directory, size_t keep);

#endif
