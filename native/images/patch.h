/*
 * How a small image of the base becomes the new one: the ranges of bytes that differ, as they are now. So it may be done
 * again from any state in between, and what it gives is checked by the crc of the whole.
 *
 *   ranges   varint count, then each: varint bytes kept since the last range, varint length, bytes
 *   varint   seven bits a byte, the lowest first, two bytes at most, no second byte of zero
 */
#ifndef FT_IMAGES_PATCH_H
#define FT_IMAGES_PATCH_H
#include <stddef.h>
#include <stdint.h>

#define IMAGE_PATCH_SIZE_MAX 4095u /* less than a block: such an image is never made of moved blocks */
/* Ranges are at least three bytes apart and cost at most four: no more than twice the image, and the last one's. */
#define IMAGE_RANGES_BYTES_MAX (2u * IMAGE_PATCH_SIZE_MAX + 16u)

/* A cursor over ranges that image_ranges_read() has accepted. */
struct image_ranges {
	const uint8_t *at, *end;
	uint32_t offset;
};

struct image_range {
	uint32_t offset, length;
	const uint8_t *bytes;
};

size_t image_varint_write(uint8_t *out, uint32_t value); /* below 16384 */
/* 0, or -1 if the bytes end before, or are none. */
int image_varint_read(const uint8_t **at, const uint8_t *end, uint32_t *value);

/* The ranges that make `new` of `old`, both of `size` bytes; `out` has room for IMAGE_RANGES_BYTES_MAX. Gives their bytes. */
size_t image_ranges_write(uint8_t *out, const uint8_t *old, const uint8_t *new, uint32_t size);

/* Takes ranges off hostile bytes: all within `size`, ascending, none empty. 0 and *at behind them, or -1. */
int image_ranges_read(const uint8_t **at, const uint8_t *end, uint32_t size, struct image_ranges *out);
/* 1 and the next range, 0 when there is none. */
int image_range_next(struct image_ranges *ranges, struct image_range *out);
/* Into the bytes of the base. */
void image_ranges_apply(struct image_ranges ranges, uint8_t *bytes);
#endif
