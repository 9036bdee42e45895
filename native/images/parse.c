#include "images/parse.h"

#include <string.h>

#include "images/records.h"

#define BLOCK EPOCH_BLOCK_BYTES

static int corrupt(struct epoch_error *e, const char *what)
{
	return epoch_fail(e, "corrupt", 0, "images: %s", what);
}

static int read_name(const uint8_t *at, uint32_t length, struct image_change *out, struct epoch_error *e)
{
	if (length <= 4 || length > IMAGE_NAME_BYTES_MAX)
		return corrupt(e, "a name's length");
	for (uint32_t i = 0; i < length; i++)
		if (at[i] <= ' ' || at[i] == '/' || at[i] == 0x7f)
			return corrupt(e, "a name with a slash, a blank or a control character");
	if (at[0] == '.' || memcmp(at + length - 4, ".img", 4) != 0)
		return corrupt(e, "a name that is no image's");
	char name[256];
	memcpy(name, at, length);
	name[length] = 0;
	if (strcmp(name, out->name) <= 0)
		return corrupt(e, "names out of order, or twice");
	memcpy(out->name, name, length + 1);
	return 0;
}

int image_extent_next(struct epoch_cursor *extents, struct image_extent *out)
{
	struct epoch_record_view v;
	if (!epoch_cursor_next(extents, &v))
		return 0;
	out->offset = get_u64(v.payload);
	out->bytes = v.type == IMAGE_DATA ? v.payload + IMAGE_DATA_HEAD_BYTES : NULL;
	out->source = v.type == IMAGE_DATA ? 0 : get_u64(v.payload + 8);
	out->length = v.type == IMAGE_DATA ? v.length_bytes - IMAGE_DATA_HEAD_BYTES : get_u64(v.payload + 16);
	return 1;
}

/* Offsets ascend, stay inside, and fall on blocks; no sum can overflow because each part is compared first. */
static int check_extent(const struct epoch_record_view *v, struct image_change *image, uint64_t *at, uint64_t *copied,
                        struct epoch_error *e)
{
	if (v->type == IMAGE_DATA ? v->length_bytes <= IMAGE_DATA_HEAD_BYTES : v->length_bytes != IMAGE_COPY_BYTES)
		return corrupt(e, "a range without content");
	struct image_extent x;
	struct epoch_cursor one = {v->payload - EPOCH_RECORD_HEADER_BYTES, v->payload + v->length_bytes};
	image_extent_next(&one, &x);
	if (x.offset % BLOCK != 0 || x.offset < *at || x.offset >= image->size || x.length == 0 ||
	    x.length > image->size - x.offset)
		return corrupt(e, "a range overlaps, is out of order or outside of its image");
	*at = x.offset + x.length;
	if (x.bytes != NULL) {
		image->has_data = 1;
		return x.length % BLOCK == 0 || *at == image->size ? 0 : corrupt(e, "a range ends inside a block");
	}
	image->has_copy = 1;
	if (image->base_size == IMAGE_NO_BASE || x.length % BLOCK != 0 || x.source % BLOCK != 0 ||
	    x.source > image->base_size || x.length > image->base_size - x.source ||
	    x.length > image->base_size - *copied)
		return corrupt(e, "a range is copied from outside of the base");
	*copied += x.length;
	return 0;
}

static int read_extents(struct epoch_cursor *c, struct image_change *out, struct epoch_error *e)
{
	uint64_t at = 0, copied = 0;
	struct epoch_record_view v;
	out->extents.at = c->at;
	for (;;) {
		out->extents.end = c->at;
		if (!epoch_cursor_next(c, &v))
			return corrupt(e, "the last image has no end");
		if (v.type == IMAGE_END)
			break;
		if (v.type != IMAGE_DATA && v.type != IMAGE_COPY)
			return corrupt(e, "an image has no end");
		if (check_extent(&v, out, &at, &copied, e) != 0)
			return -1;
	}
	if (v.length_bytes != 4)
		return corrupt(e, "an image's end");
	out->crc = get_u32(v.payload);
	return 0;
}

/* The name begins as that of the image before. */
static int read_patch_name(struct image_change *out, struct epoch_error *e)
{
	uint8_t name[IMAGE_NAME_BYTES_MAX];
	size_t before = strlen(out->name) > 4 ? strlen(out->name) - 4 : 0;
	if (out->more_end - out->more_at < 2)
		return corrupt(e, "a patch is cut off");
	size_t same = out->more_at[0], more = out->more_at[1];
	out->more_at += 2;
	if (same > before || more > (size_t)(out->more_end - out->more_at) || same + more > sizeof name - 4)
		return corrupt(e, "a patch's name");
	memcpy(name, out->name, same);
	memcpy(name + same, out->more_at, more);
	memcpy(name + same + more, ".img", 4);
	out->more_at += more;
	return read_name(name, (uint32_t)(same + more + 4), out, e);
}

static int read_patch(struct image_change *out, struct epoch_error *e)
{
	uint32_t size;
	if (read_patch_name(out, e) != 0)
		return -1;
	if (image_varint_read(&out->more_at, out->more_end, &size) != 0 || size > IMAGE_PATCH_SIZE_MAX)
		return corrupt(e, "a patch's size");
	if (out->more_end - out->more_at < 4)
		return corrupt(e, "a patch is cut off");
	out->crc = get_u32(out->more_at);
	out->more_at += 4;
	if (image_ranges_read(&out->more_at, out->more_end, size, &out->ranges) != 0)
		return corrupt(e, "a patch's ranges");
	out->size = out->base_size = size;
	out->patched = 1;
	return 0;
}

int image_change_next(struct epoch_cursor *c, struct image_change *out, struct epoch_error *e)
{
	struct epoch_record_view v;
	out->removed = out->patched = 0;
	out->size = out->base_size = out->crc = 0;
	out->has_copy = out->has_data = 0;
	if (out->more_at < out->more_end)
		return read_patch(out, e) != 0 ? -1 : 1;
	if (!epoch_cursor_next(c, &v))
		return 0;
	if (v.type == IMAGE_PATCHES) {
		out->extents.at = out->extents.end = c->at;
		out->more_at = v.payload;
		out->more_end = v.payload + v.length_bytes;
		return read_patch(out, e) != 0 ? -1 : 1;
	}
	out->removed = v.type == IMAGE_REMOVED;
	if (out->removed)
		return read_name(v.payload, v.length_bytes, out, e) != 0 ? -1 : 1;
	if (v.type != IMAGE_FILE || v.length_bytes < IMAGE_FILE_HEAD_BYTES)
		return corrupt(e, "a record that belongs to no image");
	out->size = get_u64(v.payload);
	out->base_size = get_u64(v.payload + 8);
	if (read_name(v.payload + IMAGE_FILE_HEAD_BYTES, v.length_bytes - IMAGE_FILE_HEAD_BYTES, out, e) != 0)
		return -1;
	return read_extents(c, out, e) != 0 ? -1 : 1;
}
