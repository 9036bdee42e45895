/*
 * What CRIU reads of /proc while the tasks still run (hook/late.h), and whether it is still so once they stand.
 *
 * CRIU gets each text from a copy of ours, so that what it saw is known to the byte; afterwards the file is read again
 * and compared by a rule of its kind. What is left out of a comparison is what CRIU does not look at: counters, and the
 * state that stopping changes.
 *
 * Invariant: what is not known here is not given to CRIU before the freeze: witness_open() says so, and the freeze comes first.
 */
#ifndef FT_HOOK_WITNESS_H
#define FT_HOOK_WITNESS_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "hook/pagemap_scan.h"

/* Before anything is read. False: not possible here. */
bool witness_begin(pid_t target);
/* Threads of the process, in the order in which CRIU takes hold of them. */
bool witness_thread(pid_t tid);
bool witness_has_thread(pid_t tid);

enum witness_answer {
	WITNESS_GIVEN,   /* *fd is what CRIU shall read */
	WITNESS_PLAIN,   /* nothing of the tasks': CRIU may open it itself */
	WITNESS_UNKNOWN, /* not to be read before the freeze */
};
enum witness_answer witness_open(int directory, const char *path, int flags, int *fd);
/* CRIU has opened the file of an area, or a folder. */
void witness_opened(const char *path, int fd);
void witness_listing(int fd, DIR *list);
void witness_entry(DIR *list, const char *name);
/* A question about pages that CRIU has asked, with its answer. */
bool witness_scan(const struct pm_scan_arg *asked, const struct pm_scan_arg *answered, long count);

/* With the tasks stopped. NULL: all is as it was read; else what is not. Each may be asked by a thread of its own. */
const char *witness_check_tasks(void);
const char *witness_check_rest(void);
const char *witness_check_memory(void);
/* Guard pages: for these the kernel walks through all memory. CRIU goes by them when it asks for pages. */
const char *witness_check_guards(void);
/* Inodes of the sockets among the descriptors that CRIU has listed, as they are now: how many, or -1: more than that, or not known. */
size_t witness_descriptors(const char **names);
ssize_t witness_sockets(uint32_t *inode, size_t max);
/* Whether smaps was put together from what is known of flags (hook/flags.h). */
bool witness_composed(void);

/* Pure. Whether two texts of /proc/PID/stat, or of .../status, say the same of what CRIU reads there. */
bool witness_same_stat(const char *before, const char *after);
bool witness_same_status(const char *before, const char *after);

#endif
