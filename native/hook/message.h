/*
 * What the hook library in a CRIU process and the program that started it (ftdump) say to each other over an
 * inherited SOCK_SEQPACKET pair. One message a packet.
 *
 *   hook → ftdump   PARKED    CRIU is ready and holds still just before its first PTRACE_SEIZE
 *                   FROZEN    every task is seized; nothing of sockets, memory or files has been read yet, or, where the
 *                             freeze was late, what was read is being compared with what is there now
 *                   MOVED     what was read before a late freeze is not so any more: CRIU has ended, nothing was touched
 *                   SETTLED   after a late freeze: all has been compared, and memory looked through; the other core is free
 *                   DETACHING all is dumped; the tasks are still frozen
 *                   THAWED    the last task runs again
 *   ftdump → hook   GO        answers PARKED: seize now, or (late) when CRIU first needs the tasks to stand still
 *                   CAPTURE   answers FROZEN: the gate is marked, read on
 *                   RELEASE   files are captured: let the tasks run when all is dumped; before DETACHING or after it
 *                   ABORT     at any time: make CRIU fail, so that it cures and thaws the tasks itself
 *
 * A closed socket means: CRIU exits if it is parked, else it goes on and thaws without asking any more.
 */
#ifndef FT_HOOK_MESSAGE_H
#define FT_HOOK_MESSAGE_H

#include <stdint.h>

#include "hook/phases.h"

enum hook_kind {
	HOOK_PARKED = 'P',
	HOOK_FROZEN = 'F',
	HOOK_DETACHING = 'D',
	HOOK_THAWED = 'T',
	HOOK_MOVED = 'M',
	HOOK_SETTLED = 'S',
	HOOK_GO = 'G',
	HOOK_CAPTURE = 'C',
	HOOK_RELEASE = 'R',
	HOOK_ABORT = 'A',
};

/* What makes the frozen time shorter. A bit each: in the switches, and in what a dump had to do the plain way. */
enum hook_shortcut {
	HOOK_SPLICES = 1 << 0, /* many small splices of pages made one, beside CRIU's other work */
	HOOK_PAGES = 1 << 1,   /* the image of the pages has its memory before the freeze */
	HOOK_SMAPS = 1 << 2,   /* smaps is read by a thread beside CRIU */
	HOOK_MARK = 1 << 3,    /* the gate is marked while CRIU lists namespaces */
	HOOK_LATE = 1 << 4,    /* what can be compared afterwards is read before the freeze */
	HOOK_FLAGS = 1 << 5,   /* smaps is put together from maps and the kernel's own flags */
	HOOK_QUICK = 1 << 6,   /* of a tracked area only what was written is asked for */
	HOOK_IMAGES = 1 << 7,  /* small images become files after the thaw */
	HOOK_DESCRIPTORS = 1 << 8, /* sockets are asked for their options by a thread beside CRIU */
	HOOK_TEXTS = 1 << 9, /* cgroups of threads are read by a thread beside CRIU */
	HOOK_SHORTCUTS = HOOK_SPLICES | HOOK_PAGES | HOOK_SMAPS | HOOK_MARK | HOOK_LATE | HOOK_FLAGS | HOOK_QUICK | HOOK_IMAGES |
			 HOOK_DESCRIPTORS | HOOK_TEXTS,
};

enum { HOOK_MOVED_BYTES = 32 };

struct hook_message {
	uint32_t kind;
	uint32_t threads;   /* seized so far */
	uint32_t plain;     /* with THAWED: shortcuts that were on and had to be done the plain way */
	uint32_t failed;    /* with DETACHING: pages that CRIU takes for written are not */
	uint32_t late;      /* with GO: the freeze may be late */
	uint32_t stale;     /* with DETACHING: what was read before the freeze is not so any more */
	char moved[HOOK_MOVED_BYTES]; /* with MOVED, and DETACHING if stale: what, for a person */
	uint64_t frozen_us; /* since the first PTRACE_SEIZE, by CRIU's own clock */
	uint64_t limit_us;  /* with GO: how long the tasks may stay frozen */
	struct phases phases; /* with THAWED */
};

/* Environment switches; without them the library does nothing at all. */
#define HOOK_ENV_KDAT "FTHOOK_KDAT"         /* directory, on a tmpfs, in place of /run for criu.kdat */
#define HOOK_ENV_SOCKET "FTHOOK_SOCKET"     /* descriptor of the socket: park and report */
#define HOOK_ENV_TARGET "FTHOOK_TARGET"     /* pid whose PTRACE_SEIZE is the moment to park */
#define HOOK_ENV_NO_PROBE "FTHOOK_NO_PROBE" /* leave TCP_REPAIR without sending a window probe */
#define HOOK_ENV_WARM "FTHOOK_WARM"         /* make memory present before parking */
#define HOOK_ENV_SEND_WINDOW "FTHOOK_SEND_WINDOW" /* restore: give a socket a send window and a segment size before it sends */
#define HOOK_ENV_SHORTCUTS "FTHOOK_SHORTCUTS" /* sum of enum hook_shortcut */
#define HOOK_ENV_AREAS "FTHOOK_AREAS"       /* with HOOK_FLAGS: descriptor of an iterator over the target's areas (vma/link.h) */
#define HOOK_ENV_IMAGES "FTHOOK_IMAGES"     /* with HOOK_PAGES: descriptor of the images' directory */
#define HOOK_ENV_PAGES "FTHOOK_PAGES"       /* with HOOK_PAGES: name of the image, and */
#define HOOK_ENV_PAGES_BYTES "FTHOOK_PAGES_BYTES" /* with HOOK_PAGES: memory to set aside */

#endif
