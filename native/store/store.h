/*
 * The standby's checkpoints of one pair: blobs are committed by renaming them into a journal, and applied from there, in
 * order, by a thread of its own. Internal to native/store.
 *
 *   DIR/state          what is applied (store/state.h)
 *   DIR/journal/N      committed blobs not yet applied, N = 16 hexadecimal digits, ascending without gaps
 *   DIR/images/        CRIU's images as of what is applied; DIR/images.new/ while a full epoch is being applied
 *   DIR/pages/         the processes' memory as of what is applied (pages/files.h); changed in place
 *   DIR/paths.K        the paths made in the K-th upper root (files/tracked.h)
 *
 * Invariants:
 * - `committed`, `table` and `pages` describe state + journal: what the last acknowledged blob makes of everything before it. They
 *   change only after a blob's rename. They belong to the main thread.
 * - `state`, images/, pages/ and the container's files belong to the applier (or to the main thread while it is stopped).
 * - Files sent ahead (presync) onto a store that has an epoch stay in the journal, not applied, until the full epoch that they
 *   belong to is committed: until then a takeover restores the old epoch with its own files.
 * - Nothing that is committed is ever dropped but by discard, by a full epoch after it, or by a new container root.
 */
#ifndef FT_STORE_STORE_H
#define FT_STORE_STORE_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "epoch/reader.h"
#include "files/apply.h"
#include "images/table.h"
#include "pages/set.h"
#include "store/state.h"

#define STORE_JOURNAL_MAX 256u /* blobs that wait at most */
#define STORE_MARGIN_BYTES (4ull << 20) /* kept free wherever something is written */
#define STORE_COMMIT_WAIT_MS 4000 /* for room in the journal, before `fail code=space` */
#define STORE_RETRY_MS 200

struct journal_entry {
	uint64_t number;
	struct epoch_reader *reader;
	uint64_t bytes, image_needs; /* of the blob; of its images and pages on the tmpfs */
	uint64_t file_needs;         /* of its files in the container */
	bool has_files;
	bool redo; /* may have been applied in part */
};

struct store_options {
	const char *dir, *spool, *pair, *roots;
	uint64_t root_pid, blob_bytes_max, journal_bytes_max;
};

struct store_roots {
	size_t count;
	char *name[FILES_ROOTS_MAX];
	struct tracked *tracked[FILES_ROOTS_MAX]; /* opened when first needed; the applier's */
};

struct materialized {
	uint64_t files, image_bytes, lazy_pages;
};

struct store {
	struct store_options options;
	int dirfd, journalfd;
	struct store_roots roots;
	/* the main thread's */
	struct store_state committed;
	struct images_table *table;
	struct pages_table *pages;
	uint64_t next_number;
	char *prepared; /* directory that store_prepare() has filled, from what is committed now; NULL: none */
	uint64_t prepared_lazy_from;
	struct materialized prepared_as;
	/* the applier's */
	struct store_state state;
	/* shared, under `lock` */
	pthread_mutex_t lock;
	pthread_cond_t moved; /* anything below changed */
	pthread_t applier;
	bool running, stop, busy;
	struct journal_entry journal[STORE_JOURNAL_MAX]; /* a ring */
	uint32_t journal_first, journal_count;
	uint64_t journal_bytes, image_needs, file_needs;
	uint64_t root_pid, root_start; /* 0: none attached */
	uint64_t applied_epoch;
	struct epoch_error trouble;    /* of the applier; code empty: none */
	uint64_t skipped, applied_files;
};

/* Opens or makes the store; redoes nothing yet. NULL and *e. */
struct store *store_open(const struct store_options *options, struct epoch_error *e);
void store_close(struct store *s);

struct commit_result {
	uint64_t bytes, verify_us, commit_us;
};
/* Verifies and commits a blob. 0, or -1 and *e; then nothing has changed and `path` is still there. */
int store_commit(struct store *s, uint64_t epoch, const char *path, struct commit_result *out, struct epoch_error *e);

/* A container root to apply files to; 0 takes it away. 1: everything committed is void, a full epoch is needed. */
int store_attach(struct store *s, uint64_t root_pid, struct epoch_error *e);

/*
 * Waits until all is applied, checks every image and gives hard links (or copies) of them in a directory. `lazy_from`: from so many
 * bytes of memory on it is left out, for native/feed to give later.
 */
int store_materialize(struct store *s, const char *images, uint64_t lazy_from, int timeout_ms, struct materialized *out, struct epoch_error *e);

/*
 * Fills a directory ahead of a takeover that may not come: what is committed stays as it is, and more may be committed, which makes
 * this void. 0, or -1: it is not worth it (more than `copy_bytes_max` would be copied), or it cannot be done now.
 */
int store_prepare(struct store *s, const char *images, uint64_t lazy_from, uint64_t copy_bytes_max, int timeout_ms, struct epoch_error *e);
/* Whether the directory holds what is committed, so filled. */
bool store_is_prepared(const struct store *s, const char *images, uint64_t lazy_from);
void store_unprepare(struct store *s);

/* Forgets everything but the generation. */
int store_discard(struct store *s, struct epoch_error *e);

/* store/applier.c */
int applier_start(struct store *s, struct epoch_error *e);
void applier_stop(struct store *s); /* between two blobs */
/* Waits until the journal has at most so many blobs. 0, or -1: time-out or trouble. */
int applier_wait(struct store *s, uint32_t blobs_max, uint64_t bytes_max, int timeout_ms);
/* Waits until everything is applied that belongs to a committed epoch. What stays in the journal is staged. */
int applier_finish(struct store *s, int timeout_ms);
/* /proc/PID/root of the process attached, or -1 with errno. */
int container_open(uint64_t pid, uint64_t start);
/* The pages of a blob, or NULL if it has none. */
const struct epoch_section *store_pages_section(const struct epoch_reader *r);
int remove_tree(int dirfd, const char *name);
uint64_t store_now_us(void);
/* Called when the applier gets into trouble or out of it; set by the program. From the applier's thread. */
extern void (*store_on_trouble)(const struct epoch_error *trouble);
#endif
