/*
 * One epoch: freeze, capture, thaw, pack. dump_epoch() reads as a numbered plan.
 *
 * Invariants:
 *  - When a verb has been answered, the tasks run and the gate is thawed, whatever the answer was.
 *  - Epoch numbers go up only. A generation never goes down.
 *  - The images and the table of pages kept for the delta are exactly those of the last blob that was answered with `ok`.
 *  - Only a dump that was answered with `ok` ends the doubt of the tracker: after any other the next is whole.
 *  - Nothing is read of sockets, memory or files before the gate is marked; nothing of them is read after the
 *    tasks run again, but for large files that grew, which files_verify() proves unchanged.
 *  - Every wait has a deadline. CRIU is killed only while it has no task seized, or, as the last resort, when it
 *    has not let go two seconds after the freeze limit, which it was told to do.
 */
#ifndef FT_DUMP_DUMP_H
#define FT_DUMP_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "dump/engine.h"
#include "dump/gate.h"
#include "dump/tree.h"
#include "epoch/writer.h"
#include "files/scan.h"
#include "images/delta.h"
#include "pages/collect.h"
#include "track/tracker.h"

enum { DETAIL_BYTES_MAX = 1536, LOG_PATH_BYTES_MAX = 512 };

struct dumper {
	/* how it was started */
	const char *pair, *work_path;
	uint64_t freeze_limit_us, blob_bytes_max;
	size_t log_keep;
	uint32_t shortcuts; /* of enum hook_shortcut */
	bool tell_frozen; /* an event for each freeze: whoever reads it wakes up while the tasks stand, on a core that they need */
	uint32_t early_left, early_next; /* dumps whose freeze is not late; and how many after the next in vain */
	/* the container */
	struct enter_container container;
	struct enter_toolkit toolkit;
	int work, logs, kdat;
	pid_t app_pid, app_host_pid; /* 0: not known yet */
	int areas_program, areas_link; /* the iterator over memory areas, and over those of */
	pid_t areas_of;                /* this process of the host; -1: none */
	/* state */
	bool fed; /* nothing of the application's memory is missing */
	struct gate gate;
	struct engine engine; /* the next dump's CRIU */
	uint64_t sequence;
	struct files_index *files;
	uint64_t files_us; /* to read them in the last freeze; 0: there was none */
	bool watching; /* the kernel tells of at least one of their roots */
	struct tracker tracker;
	struct hash_key page_key;
	struct pages_packer *packer; /* NULL: pages are shipped as they are */
	struct pages_table *base_pages; /* of the images kept */
	uint64_t pages_bytes; /* CRIU's largest image of pages in the last dump; 0: the next is of another kind */
	uint32_t pages_id;
	uint64_t last_epoch, last_generation;
	uint64_t base_epoch; /* of the images kept; 0: none */
	int base_images;
	char base_name[32], garbage_name[32];
	uint64_t last_blob_epoch; /* of the last blob made; 0: a presync, or none */
	bool blob_unacked; /* a blob was made since the last one that the standby is known to have */
	struct tree tree;
	struct tree_uses uses;
	/* of the last failure */
	const char *code, *stage;
	int error;
	char detail[DETAIL_BYTES_MAX], log[LOG_PATH_BYTES_MAX];
};

struct dump_request {
	uint64_t epoch, base, generation;
	const char *path;
};

struct dump_result {
	uint64_t pause_us, frozen_at_us, freeze_us, criu_us, files_us, pack_us, wall_us, bytes;
	uint64_t processes, threads;
	struct phases phases;
	uint32_t plain; /* shortcuts that were not taken */
	uint32_t late_in_vain; /* tries before this one: what was read before the freeze had changed */
	bool full;
	struct files_scan_stats files;
	struct images_delta_stats images;
	struct pages_stats pages;
};

/* Asks ftinit for the application and parks the next CRIU. Harmless to repeat. */
int dump_arm(struct dumper *self);
/* To be called between verbs when engine.pidfd is readable: waits for a parked CRIU that has died. */
void dump_idle(struct dumper *self);
int dump_epoch(struct dumper *self, const struct dump_request *request, struct dump_result *result);
int dump_presync(struct dumper *self, const struct dump_request *request, struct dump_result *result);
void dump_acked(struct dumper *self, uint64_t epoch);
/* The standby has lost what it had: the next dump is full, files and all. */
void dump_reset(struct dumper *self);
/* What can wait until the answer is out: removes images that are not needed, prunes logs. */
void dump_tidy(struct dumper *self);
void dump_stop(struct dumper *self);

/* Writes an event line unless the reader is behind; implemented by main. */
void dump_event(const char *text, size_t length);

#endif
