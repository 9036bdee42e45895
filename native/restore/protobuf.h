/* Just enough of protobuf's wire format to read CRIU's images, which may be anything. */
#ifndef FT_RESTORE_PROTOBUF_H
#define FT_RESTORE_PROTOBUF_H

#include <stdbool.h>
#include <stdint.h>

struct cursor {
	const uint8_t *at, *end;
};

static inline bool cursor_varint(struct cursor *cursor, uint64_t *out)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 64 && cursor->at < cursor->end; shift += 7) {
		uint8_t byte = *cursor->at++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0) {
			*out = value;
			return true;
		}
	}
	return false;
}

static inline bool cursor_skip(struct cursor *cursor, uint64_t bytes)
{
	if (bytes > (uint64_t)(cursor->end - cursor->at))
		return false;
	cursor->at += bytes;
	return true;
}

/* One field: its number, and its value if that is a varint; or how long it is, if it is a string, which ends at the cursor. */
static inline bool cursor_field(struct cursor *cursor, uint64_t *number, uint64_t *value)
{
	uint64_t key;
	*value = 0;
	if (!cursor_varint(cursor, &key) || key >> 3 == 0)
		return false;
	*number = key >> 3;
	switch (key & 7) {
	case 0: return cursor_varint(cursor, value);
	case 1: return cursor_skip(cursor, 8);
	case 2: return cursor_varint(cursor, value) && cursor_skip(cursor, *value);
	case 5: return cursor_skip(cursor, 4);
	default: return false;
	}
}

static inline uint32_t get_u32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

#endif
