/* One image of a section, parsed and checked in itself; what depends on the base is checked by its readers. */
#ifndef FT_IMAGES_PARSE_H
#define FT_IMAGES_PARSE_H
#include <stdint.h>
#include "epoch/reader.h"
#include "images/patch.h"

struct image_change {
	char name[256];
	int removed;
	uint64_t size, base_size;
	uint32_t crc;
	struct epoch_cursor extents; /* its IMAGE_DATA and IMAGE_COPY records */
	int has_data, has_copy;
	int patched; /* it has `ranges` in place of extents, and the base's size */
	struct image_ranges ranges;
	const uint8_t *more_at, *more_end; /* image_change_next()'s own: the rest of a record of patches */
};
struct image_extent {
	uint64_t offset, length;
	const uint8_t *bytes; /* NULL: copied from the base's `source` */
	uint64_t source;
};

/* 1 and the next image, 0 at the end of the section, -1 and *e. `out` holds the one before (all zero at first). */
int image_change_next(struct epoch_cursor *c, struct image_change *out, struct epoch_error *e);
/* 1 and the next extent, 0 when there is none. Only after image_change_next() has accepted the image. */
int image_extent_next(struct epoch_cursor *extents, struct image_extent *out);
#endif
