#include "images/patch.h"

#include <assert.h>
#include <string.h>

enum { KEPT_BYTES_MIN = 3 }; /* fewer are cheaper within a range than between two */

size_t image_varint_write(uint8_t *out, uint32_t value)
{
	assert(value < 1u << 14);
	out[0] = (uint8_t)(value & 0x7f);
	if (value < 0x80)
		return 1;
	out[0] |= 0x80;
	out[1] = (uint8_t)(value >> 7);
	return 2;
}

int image_varint_read(const uint8_t **at, const uint8_t *end, uint32_t *value)
{
	if (*at >= end)
		return -1;
	*value = *(*at)++;
	if (*value < 0x80)
		return 0;
	if (*at >= end || **at == 0 || **at >= 0x80)
		return -1;
	*value = (*value & 0x7f) | (uint32_t)*(*at)++ << 7;
	return 0;
}

/* Where the range that begins at `from` ends: before so many equal bytes, or at the image's end. */
static uint32_t range_end(const uint8_t *old, const uint8_t *new, uint32_t from, uint32_t size)
{
	uint32_t end = from + 1;
	for (uint32_t at = end; at < size && at - end < KEPT_BYTES_MIN; at++)
		if (old[at] != new[at])
			end = at + 1;
	return end;
}

size_t image_ranges_write(uint8_t *out, const uint8_t *old, const uint8_t *new, uint32_t size)
{
	uint8_t *at = out + 2; /* the count comes first, and is known last */
	uint32_t count = 0, kept_from = 0;
	assert(size <= IMAGE_PATCH_SIZE_MAX);
	for (uint32_t from = 0; from < size; from++) {
		if (old[from] == new[from])
			continue;
		uint32_t end = range_end(old, new, from, size);
		at += image_varint_write(at, from - kept_from);
		at += image_varint_write(at, end - from);
		memcpy(at, new + from, end - from);
		at += end - from;
		count++;
		kept_from = end;
		from = end - 1;
	}
	size_t bytes = (size_t)(at - out) - 2, head = image_varint_write(out, count);
	assert(head + bytes <= IMAGE_RANGES_BYTES_MAX);
	memmove(out + head, out + 2, bytes);
	return head + bytes;
}

static int take_range(const uint8_t **at, const uint8_t *end, uint32_t *offset, uint32_t size)
{
	uint32_t kept, length;
	if (image_varint_read(at, end, &kept) != 0 || image_varint_read(at, end, &length) != 0)
		return -1;
	if (kept > size - *offset || length == 0 || length > size - *offset - kept || length > (size_t)(end - *at))
		return -1;
	*offset += kept + length;
	*at += length;
	return 0;
}

int image_ranges_read(const uint8_t **at, const uint8_t *end, uint32_t size, struct image_ranges *out)
{
	uint32_t count, offset = 0;
	if (image_varint_read(at, end, &count) != 0)
		return -1;
	out->at = *at;
	out->offset = 0;
	for (; count > 0; count--)
		if (take_range(at, end, &offset, size) != 0)
			return -1;
	out->end = *at;
	return 0;
}

int image_range_next(struct image_ranges *ranges, struct image_range *out)
{
	uint32_t kept;
	if (ranges->at >= ranges->end || image_varint_read(&ranges->at, ranges->end, &kept) != 0 ||
	    image_varint_read(&ranges->at, ranges->end, &out->length) != 0)
		return 0;
	out->offset = ranges->offset + kept;
	out->bytes = ranges->at;
	ranges->at += out->length;
	ranges->offset = out->offset + out->length;
	return 1;
}

void image_ranges_apply(struct image_ranges ranges, uint8_t *bytes)
{
	struct image_range range;
	while (image_range_next(&ranges, &range))
		memcpy(bytes + range.offset, range.bytes, range.length);
}
