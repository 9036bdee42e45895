/* Brings the standby's flat directory of images to the state after a section. The section must have passed images_table_next(). */
#ifndef FT_IMAGES_APPLY_H
#define FT_IMAGES_APPLY_H
#include "epoch/reader.h"

/*
 * 0, or -1 and *e (space, io; corrupt: a patch whose base is not there). May be killed at any instant and called again with `redo` set: then images that are at their
 * goal already are found by their crc. Images without moved blocks are changed in place; the others are built aside.
 */
int images_apply(int dirfd, const struct epoch_section *section, int redo, struct epoch_error *e);

/* Bytes that applying needs beyond what the directory holds now: growth, and whole copies of images with moved blocks. */
uint64_t images_apply_needs(const struct epoch_section *section);
#endif
