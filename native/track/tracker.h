/*
 * Which memory of the application is watched for writes: a userfaultfd per process, in asynchronous write-protect mode, held
 * here, outside of the tree that CRIU dumps.
 *
 * Invariants:
 *  - An area is in the list only if it has been registered since the refresh that put it there, as far as we know; the kernel
 *    is asked again at every scan (hook/written.c), and what it denies is taken out here and dumped whole.
 *  - An area that is new in the list, and every area after a dump that failed, is told to be dumped whole.
 *  - A process is one pid and start time; when it executes another program its userfaultfd is dead, and it gets another.
 */
#ifndef FT_TRACK_TRACKER_H
#define FT_TRACK_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "hook/areas.h"

enum { TRACK_WHY_BYTES = 256 };
/* From the one that always works to the best one. */
enum track_mode { TRACK_FULL, TRACK_SOFT_DIRTY, TRACK_WP_ASYNC };

struct track_process {
	pid_t host, inside;
	uint64_t started;
	int userfaultfd; /* -1: none (yet) */
	unsigned seen;   /* refreshes */
	char refused[96]; /* not empty: why it is dumped whole, always */
	bool alive;      /* at this refresh */
	bool known;      /* in the list of a refresh before this one */
	struct area *area; /* ascending; flags as told to the hook */
	size_t areas, room;
};

struct tracker {
	enum track_mode mode;
	char why[TRACK_WHY_BYTES]; /* not empty: why nothing better */
	bool verify;
	bool any_frame; /* with soft-dirty bits, so that a test is seen to fail: pages that have moved are taken for unchanged */
	bool quick; /* the kernel's quick scan is right, and it can be asked about single areas (Linux 6.14) */
	uint64_t marker; /* track_probe_marker() */
	bool doubt; /* the next dump is whole: marks were lost */
	struct track_process *process;
	size_t count, room;
	uint64_t refreshes;
	void (*refused)(pid_t inside, const char *why); /* told once a process; may be NULL */
};

/* Whether this kernel finds written pages, by trying (track/probe.c): 0, or errno and why not. */
int track_probe(char *why, size_t size);
/* The best that works, up to `best`, or without soft-dirty bits; *why: why nothing better does, empty for the best there is. */
enum track_mode track_choose(enum track_mode best, bool no_bits, char *why, size_t size);
/* The same, of these probes: 0, or errno and why not; NULL: it is not to be used. */
struct track_ways {
	int (*wp_async)(char *why, size_t size), (*soft_dirty)(char *why, size_t size);
};
enum track_mode track_choose_of(const struct track_ways *ways, enum track_mode best, char *why, size_t size);
const char *track_called(enum track_mode mode);
/* Whether this kernel's quick scan, which looks at marks alone, tells of pages that are gone too. */
bool track_probe_quick(void);
/* What /proc/PID/pagemap shows, but for soft-dirty, where a mark is and no page; 0: it cannot be told from a page that is swapped out. */
uint64_t track_probe_marker(void);
void track_open(struct tracker *tracker, enum track_mode mode, bool verify);
void track_close(struct tracker *tracker);

/*
 * Before a freeze: finds new processes and areas, and writes the list for the hook into the directory of images. `whole`: nothing
 * may be left out of this dump. `before`: the directory of the last dump's images, or -1. -1 with errno if the list cannot be written; what
 * cannot be tracked is only dumped whole.
 */
int track_refresh(struct tracker *tracker, const pid_t *pid, size_t pids, bool whole, int before, int images);
/* After a dump: what the hook kept, in malloc'd memory, and its files removed. Areas that it found lost are forgotten. -1 with errno. */
int track_collect(struct tracker *tracker, int images, struct area **kept, size_t *count);
/* The dump failed, at whatever place. */
void track_doubt(struct tracker *tracker);
/* Processes tracked; 0 in mode full. */
size_t track_watched(const struct tracker *tracker);
/* Whether a process has a clear_refs open: whoever writes to it takes away soft-dirty bits. */
bool track_clears_refs(pid_t pid);
/* Why all memory, or that of some process, is dumped whole; empty: none is for a lasting reason. */
void track_why_whole(const struct tracker *tracker, char *why, size_t size);

/* On a userfaultfd, 0 or -1 with errno: what it shall do; and an area of its process, whose pages all count as written then. */
int track_negotiate(int fd);
int track_register(int fd, uint64_t start, uint64_t end);

/* Parses a line of /proc/PID/maps: 1 an area to be tracked, 0 not, -1 an area that forbids tracking its process. Pure. */
int track_maps_line(const char *line, struct area *out);
#endif
