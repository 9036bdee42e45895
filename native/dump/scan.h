/* The scan of the files, on a thread of its own so that it runs beside CRIU. One scan per thread. */
#ifndef FT_DUMP_SCAN_H
#define FT_DUMP_SCAN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "dump/tree.h"

struct scan {
	pthread_t thread;
	bool started;
	int begin, done; /* eventfds */
	/* in */
	struct files_index *index;
	struct epoch_writer *writer;
	struct tree *tree;
	pid_t root;
	struct tree_uses *uses;
	/* out, valid once `done` is readable */
	int result, error;
	uint64_t us;
	struct files_scan_stats stats;
};

/* Starts the thread, which then waits. Call it before the freeze. */
int scan_prepare(struct scan *scan);
void scan_begin(struct scan *scan);
/* Ends the thread, whether it was begun or not; idempotent. */
void scan_end(struct scan *scan);

#endif
