/*
 * Where the frozen time goes. A phase begins at a call by which CRIU 4.2.1 can be seen to begin it, and lasts until
 * the next begins; with several processes the phases come again, and add up.
 */
#ifndef FT_HOOK_PHASES_H
#define FT_HOOK_PHASES_H

#include <stdint.h>

enum phase {
	PHASE_SEIZE,   /* from the first PTRACE_SEIZE until all tasks are stopped */
	PHASE_MARK,    /* ftdump, and its gate */
	PHASE_COLLECT, /* namespaces, sock_diag, seccomp filters */
	PHASE_MAPS,    /* smaps, mapped files, list of descriptors */
	PHASE_INFECT,  /* signals, rseq, the parasite in place */
	PHASE_FILES,   /* descriptors, sockets */
	PHASE_CHECK,   /* for the comparison of what was read before a late freeze */
	PHASE_PAGES,   /* memory */
	PHASE_CORE,    /* registers, threads, cure, the rest of the images */
	PHASE_WAIT,    /* for ftdump: its scan of the files */
	PHASE_DETACH,  /* until the last task runs */
	PHASES,
};

struct phases {
	uint32_t us[PHASES];
	uint32_t cpu_us;    /* of CRIU itself, in all of them */
	uint32_t delay_us;  /* CRIU could have run and did not: its core was busy with others */
};

#define PHASE_NAMES { "seize", "mark", "collect", "maps", "infect", "files", "check", "pages", "core", "wait", "detach" }

/* The frozen time begins. */
void phases_begin(void);
/* Another phase begins; to begin the one that lasts already is nothing. */
void phase_enter(enum phase phase);
/* An image is opened, or a file of /proc: some tell of a phase. */
void phase_opened(const char *path);
/* The frozen time ends. */
void phases_end(void);
struct phases phases_seen(void);

#endif
