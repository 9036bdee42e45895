/* The application's processes as /proc shows them to the host. */
#ifndef FT_DUMP_TREE_H
#define FT_DUMP_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "files/scan.h"

enum { TREE_PROCESSES_MAX = 4096, TREE_USES_MAX = 8192, TREE_USES_TEXT_BYTES = 1 << 20 };

struct tree {
	size_t processes, threads;
	size_t traced; /* threads in a tracing stop */
	bool truncated; /* more than TREE_PROCESSES_MAX */
	pid_t pid[TREE_PROCESSES_MAX];
};

/* Walks from `root` down. -1 with ESRCH when the root is gone. */
int tree_read(struct tree *tree, pid_t root);

/* Files that the tasks have open for writing, or mapped shared. */
struct tree_uses {
	size_t count, text_bytes;
	const char *doubt; /* why these may not be all that are open; all mapped ones are there */
	struct files_use use[TREE_USES_MAX];
	char text[TREE_USES_TEXT_BYTES]; /* their paths */
};

/* -1 with errno; ENFILE when more are mapped than there is room for. */
int tree_uses_read(const struct tree *tree, struct tree_uses *out);

/* The host pid of the child of `parent` that its own pid namespace calls `inside`; -1 with ESRCH if none. */
pid_t tree_child_called(pid_t parent, pid_t inside);

/*
 * Parses one line of /proc/PID/maps: true when it is a shared mapping of a file. `mapped`: it is writable now; one that is not may
 * have been. The path is decoded in place. Pure.
 */
bool tree_maps_line(char *line, struct files_use *out);

#endif
