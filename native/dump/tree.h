/* The application's processes as /proc shows them to the host. */
#ifndef FT_DUMP_TREE_H
#define FT_DUMP_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "files/scan.h"

enum { TREE_PROCESSES_MAX = 4096, TREE_MAPPED_MAX = 4096 };

struct tree {
	size_t processes, threads;
	size_t traced; /* threads in a tracing stop */
	bool truncated; /* more than TREE_PROCESSES_MAX */
	pid_t pid[TREE_PROCESSES_MAX];
};

/* Walks from `root` down. -1 with ESRCH when the root is gone. */
int tree_read(struct tree *tree, pid_t root);

/* Files that a task maps shared and writable, each once. -1 with errno; ENFILE when there are too many. */
int tree_mapped(const struct tree *tree, struct files_inode_id *out, size_t *count);

/* The host pid of the child of `parent` that its own pid namespace calls `inside`; -1 with ESRCH if none. */
pid_t tree_child_called(pid_t parent, pid_t inside);

/* Parses one line of /proc/PID/maps: true when it is a shared writable mapping of a file. Pure. */
bool tree_maps_line(const char *line, struct files_inode_id *out);

#endif
