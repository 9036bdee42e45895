/*
 * The standby's side: brings a root of the standby container to the state after a section.
 *
 * Every path is resolved from the root's descriptor with openat2, through no symbolic link and into no other mount, so that
 * nothing inside the container can lead an operation outside; the last component is never followed. All operations may be
 * done again from the beginning after a kill at any instant.
 */
#ifndef FT_FILES_APPLY_H
#define FT_FILES_APPLY_H
#include <stdint.h>

#include "files/parse.h"
#include "files/tracked.h"

struct files_apply_stats {
	uint64_t entries, bytes;
	uint64_t skipped; /* behind a mount, not creatable here (a device), or an attribute the file system refuses */
};

/*
 * Applies a section that files_check() accepted. `container_fd`: the container's root directory (/proc/PID/root), in which the
 * section's root is looked up. `tracked`: for an upper root, its paths; NULL for a tree. 0, or -1 and *e (space = try again
 * when there is room; io).
 */
int files_apply(int container_fd, const struct files_section *section, struct tracked *tracked,
                struct files_apply_stats *stats, struct epoch_error *e);

/* The section's root inside the container, or -1 with errno. */
int files_root_open(int container_fd, const struct files_section *section);
#endif
