/*
 * The standby's knowledge of its images: per image a crc32c for every 4 KiB block, and small ones themselves. With it the crc of a whole image after a
 * delta is known from the delta alone, so an epoch is acknowledged only when base plus delta give exactly the primary's image,
 * without reading an image and before anything is applied.
 */
#ifndef FT_IMAGES_TABLE_H
#define FT_IMAGES_TABLE_H
#include <stddef.h>
#include <stdint.h>
#include "epoch/reader.h"

struct image_entry {
	char name[256];
	uint64_t size, blocks;
	uint32_t *crc; /* of each block; owned by the table */
	uint8_t *small; /* its content, if it has at most IMAGE_PATCH_SIZE_MAX bytes, for patches; owned by the table */
};
struct images_table {
	struct image_entry *entry; /* ascending by name */
	size_t count;
	uint64_t bytes; /* of all images */
};

/* The table of no images; NULL on lack of memory. */
struct images_table *images_table_empty(void);
/* Reads every *.img of a directory. NULL with *e. */
struct images_table *images_table_read(int dirfd, struct epoch_error *e);
void images_table_free(struct images_table *table); /* NULL is fine */

/*
 * The table after `section`, a new one; `base` stays as it is. Checks everything the section says: order, bounds, coverage,
 * base sizes, and every image's crc. NULL with *e (corrupt; base = does not fit this base; space = no memory).
 * `redo`: the base may have this very section applied already, or some of it: what is at its goal is taken as it is.
 */
struct images_table *images_table_next(const struct images_table *base, const struct epoch_section *section, int redo,
                                       struct epoch_error *e);
/* crc32c of a whole image, from its blocks'. */
uint32_t image_entry_crc(const struct image_entry *entry);
#endif
