/*
 * One CRIU dump process: started early, parked by the hook library before it touches a task, let go at the
 * tick. See hook/message.h for the conversation.
 */
#ifndef FT_DUMP_ENGINE_H
#define FT_DUMP_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "enter/enter.h"
#include "hook/message.h"

struct engine {
	pid_t pid; /* 0: none */
	int pidfd;
	int socket;
	int images; /* directory of this dump */
	int status; /* wait status, once pid is 0 again */
	bool parked;
	uint64_t sequence;
	char images_name[32], log_name[32];
};

struct engine_places {
	const struct enter_toolkit *toolkit;
	const struct enter_container *container;
	int work, logs, kdat; /* directories */
	pid_t app_pid, app_host_pid;
	bool quiet; /* no window probes */
	bool soft_dirty; /* the bits of what is written are taken away with each dump */
	uint32_t shortcuts; /* of enum hook_shortcut */
	int areas;          /* an iterator over the application's memory areas, or -1 */
	char pages_name[32];  /* the image of pages to set memory aside for */
	uint64_t pages_bytes; /* 0: none */
};

enum engine_news { ENGINE_MESSAGE, ENGINE_EXITED, ENGINE_OTHER, ENGINE_TIMEOUT };

void engine_init(struct engine *engine);
/* Makes a fresh image directory and starts CRIU. -1 with errno and *stage. */
int engine_start(struct engine *engine, const struct engine_places *places, uint64_t sequence, const char **stage);
/* Waits for a message or the end of CRIU, and, if `other` is not -1, for that to become readable. */
enum engine_news engine_wait(struct engine *engine, int other, uint64_t deadline_us, struct hook_message *message);
int engine_say(struct engine *engine, enum hook_kind kind, uint64_t limit_us);
/* GO; the freeze may be late. */
int engine_go(struct engine *engine, uint64_t limit_us, bool late);
bool engine_succeeded(const struct engine *engine);
/* For one that is parked or still starting: nothing is seized, so it may simply be killed. */
void engine_drop(struct engine *engine, int work);

/* Removes a flat directory and what is in it. */
int engine_remove_images(int work, const char *name);

#endif
