/*
 * What the parts of libfthook.so know of the dump they are in. hook.c has the stages and the conversation with ftdump,
 * files.c and sockets.c the libc functions that look at them.
 */
#ifndef FT_HOOK_HOOK_H
#define FT_HOOK_HOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "hook/message.h"

enum hook_stage { STAGE_START, STAGE_READING, STAGE_SEIZING, STAGE_FROZEN, STAGE_DETACHING, STAGE_THAWED };

struct hook {
	const char *kdat;
	int socket;
	long target;
	bool no_probe, send_window, warm;
	unsigned shortcuts, used;
	enum hook_stage stage;
	unsigned seized, detached;
	bool aborted, released, marking, stale;
	char moved[HOOK_MOVED_BYTES];
	uint64_t frozen_at_us, limit_us, check_at_us;
};
/* Not to be found by the program that this is preloaded into. */
extern struct hook hook __attribute__((visibility("hidden")));

/* Asked at every image that CRIU creates and every chunk of memory that it copies. */
bool hook_must_fail(void) __attribute__((visibility("hidden")));
/* Returns when the gate is marked; see hook.c for what has to wait. */
void hook_await_mark(void) __attribute__((visibility("hidden")));
/* The same, if the gate is marked by now: what has to wait for it may begin. */
void hook_look_for_mark(void) __attribute__((visibility("hidden")));

/* The frozen time begins: at once, or after CRIU has read what can be compared (hook/late.h). */
void hook_freeze_begins(void) __attribute__((visibility("hidden")));
/* Every task is stopped, after CRIU has begun to read. */
void hook_frozen_late(void) __attribute__((visibility("hidden")));
void hook_say(enum hook_kind kind) __attribute__((visibility("hidden")));

#endif
