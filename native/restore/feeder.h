/*
 * Starts ftfeed (native/feed) when the images leave memory out.
 *
 * Invariant: what it says is read before CRIU is started, and it learns of our end, however that comes: by its stdin.
 */
#ifndef FT_RESTORE_FEEDER_H
#define FT_RESTORE_FEEDER_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct feeder {
	int control; /* closed when the restore is over; -1: no feeder */
	uint64_t pages;
	pid_t pid; /* of the process that gives the memory */
};
/* 0; 1: no memory is left out, and no feeder is needed; -1 with a sentence in `detail`. */
int feeder_start(struct feeder *feeder, int images, const char *images_path, const char *log_path, pid_t init_pid, char *detail, size_t size);
/* The restore is over. */
void feeder_release(struct feeder *feeder);
#endif
