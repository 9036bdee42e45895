/*
 * To create a file, write to it and close it takes CRIU some ten microseconds, and it does so for each process, thread and TCP
 * connection. Here small images are kept in memory while the tasks stand, and become files after the last of them runs again.
 *
 * CRIU is given a descriptor that nothing can be done with but what is answered here: write(), writev() and close(). Whatever else
 * it would do fails, and so does the dump.
 *
 * Invariants:
 *  - Only images that CRIU writes from beginning to end are kept, by name; every other is a file from the start.
 *  - What is in a file is what was written, in that order, whether it was kept or not: an image for which there is no more room
 *    becomes a file at once, with what is kept of it, and CRIU's descriptor is that file's from then on.
 *  - CRIU does not end well before all are files: ftdump takes images only then.
 */
#ifndef FT_HOOK_IMAGES_H
#define FT_HOOK_IMAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Before the freeze: room, made present. `directory` is the images', for good. False: every image is a file. */
bool images_prepare(int directory, size_t bytes);
/* In place of openat(): a descriptor, or -1: not one to be kept. */
int images_open(int directory, const char *name, int flags, mode_t mode);
/* False: not kept, to be done as it is. */
bool images_take(int fd, const struct iovec *vector, int count, ssize_t *written);
/* CRIU closes it. */
void images_closed(int fd);
/* All become files. False: one did not. */
bool images_save(void);
/* There was room for all that was to be kept. */
bool images_all_kept(void);

#endif
