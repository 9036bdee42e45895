/*
 * What the store knows for certain after a kill: one small file, replaced by rename, and the names and headers of the blobs in
 * its journal.
 *
 * Invariant: state + journal in order = what is committed. The state file moves only when a blob has been applied wholly.
 */
#ifndef FT_STORE_STATE_H
#define FT_STORE_STATE_H
#include <stdint.h>

#include "epoch/reader.h"

struct store_state {
	uint64_t generation;  /* highest seen; survives discard */
	uint64_t epoch;       /* 0: none */
	uint64_t files_chain, files_seq;
	uint64_t applied;     /* number in the journal of the last blob applied */
	uint64_t root_pid, root_start; /* the standby container's first process: pid and start time, 0: none yet */
	uint32_t need_images; /* 1: only EPOCH_FULL continues */
	uint32_t need_files;  /* 1: only files_seq 1 continues */
};

/* 0 (all zero if there is no file), or -1 and *e: corrupt, version, io. `pair` must be the one it was written for. */
int state_read(int dirfd, const char *pair, struct store_state *out, struct epoch_error *e);
int state_write(int dirfd, const char *pair, const struct store_state *state, struct epoch_error *e);

/* Whether a blob with that header may follow: 0, or -1 and *e (generation, order, base). */
int state_accepts(const struct store_state *state, const struct epoch_header *h, struct epoch_error *e);
/* The state after it. */
void state_advance(struct store_state *state, const struct epoch_header *h);

/* Start time of a process in clock ticks, 0 if it is not there. */
uint64_t process_start(uint64_t pid);
#endif
