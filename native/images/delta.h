/* The primary's side of CRIU's images: what changed against the base epoch's directory, as one section of a blob. */
#ifndef FT_IMAGES_DELTA_H
#define FT_IMAGES_DELTA_H
#include <stdint.h>
#include "epoch/writer.h"

struct images_delta_stats {
    uint64_t files, image_bytes;             /* all of the new epoch */
    uint64_t changed_blocks, moved_blocks;   /* of 4 KiB: shipped; found at another offset of the base and not shipped */
    uint64_t patched_files;                  /* of all: small, and of the base's size */
    uint64_t shipped_bytes;
};

/*
 * Compares the regular files of `new_dirfd` with those of the same name in `prev_dirfd` (-1: full epoch) and writes the section.
 * Takes *.img files only (logs, pid files and statistics are not part of an epoch: stats-dump differs every time and CRIU does
 * not read it back). Subdirectories are ignored. Neither directory is changed; both must be quiet, `prev_dirfd` must hold
 * exactly what the base epoch shipped. 0, or -1 with errno. Call outside of the frozen window. `stats` may be NULL.
 */
int images_delta(int prev_dirfd, int new_dirfd, struct epoch_writer *w, struct images_delta_stats *stats);
#endif
