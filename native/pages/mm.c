#include "pages/mm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "epoch/format.h"
#include "pages/records.h"

#define MAGIC_IMAGE 0x54564319u
#define MAGIC_MM 0x57492820u

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { MM_AREAS = 14 };
enum { AREA_START = 1, AREA_END = 2, AREA_FLAGS = 6, AREA_STATUS = 7, AREA_ADVICE = 9, AREA_FIELDS = 10 };
enum { STATUS_VSYSCALL = 1 << 2, STATUS_VDSO = 1 << 3, STATUS_VVAR = 1 << 12 };
enum { WIPE_ON_FORK = 18 };

struct cursor {
	const uint8_t *at, *end;
};

static bool read_varint(struct cursor *c, uint64_t *out)
{
	*out = 0;
	for (unsigned shift = 0; shift < 64 && c->at < c->end; shift += 7) {
		uint8_t byte = *c->at++;
		*out |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return true;
	}
	return false;
}

/* One field: its number, and its value or (BYTES) where it lies. */
static bool read_field(struct cursor *c, uint64_t *number, unsigned *kind, uint64_t *value, struct cursor *inside)
{
	uint64_t key, length = 0;
	if (!read_varint(c, &key))
		return false;
	*number = key >> 3;
	*kind = key & 7;
	if (*kind == VARINT)
		return read_varint(c, value);
	if (*kind == BYTES ? !read_varint(c, &length) : *kind != FIXED64 && *kind != FIXED32)
		return false;
	if (*kind != BYTES)
		length = *kind == FIXED64 ? 8 : 4;
	if (length > (uint64_t)(c->end - c->at))
		return false;
	*inside = (struct cursor){ .at = c->at, .end = c->at + length };
	c->at += length;
	return true;
}

static bool read_area(struct cursor c, uint64_t field[AREA_FIELDS])
{
	for (int i = 0; i < AREA_FIELDS; i++)
		field[i] = 0;
	while (c.at < c.end) {
		uint64_t number, value = 0;
		unsigned kind;
		struct cursor inside;
		if (!read_field(&c, &number, &kind, &value, &inside))
			return false;
		if (kind == VARINT && number < AREA_FIELDS)
			field[number] = value;
	}
	return field[AREA_START] % PAGE_BYTES == 0 && field[AREA_END] % PAGE_BYTES == 0 && field[AREA_START] < field[AREA_END];
}

/*
 * As CRIU has it; and not where a child of the process must find zeros instead of its parent's data, which a page that is given
 * after the fork would not respect.
 */
static bool can_be_lazy(const uint64_t field[AREA_FIELDS])
{
	uint64_t flags = field[AREA_FLAGS];
	return (flags & MAP_ANONYMOUS) != 0 && (flags & MAP_PRIVATE) != 0 && (flags & (MAP_LOCKED | MAP_HUGETLB)) == 0 &&
	       (field[AREA_STATUS] & (STATUS_VSYSCALL | STATUS_VDSO | STATUS_VVAR)) == 0 &&
	       (field[AREA_ADVICE] >> WIPE_ON_FORK & 1) == 0;
}

static int collect(struct cursor c, struct mm_area **out, size_t *count)
{
	size_t room = 0;
	uint64_t last_end = 0;
	while (c.at < c.end) {
		uint64_t number, value, field[AREA_FIELDS];
		unsigned kind;
		struct cursor inside;
		errno = EBADMSG;
		if (!read_field(&c, &number, &kind, &value, &inside))
			return -1;
		if (number != MM_AREAS || kind != BYTES)
			continue;
		if (!read_area(inside, field))
			return -1;
		if (!can_be_lazy(field))
			continue;
		if (field[AREA_START] < last_end || field[AREA_END] > PAGES_ADDRESS_END)
			return -1;
		if (*count == room) {
			room = room ? room * 2 : 64;
			struct mm_area *grown = realloc(*out, room * sizeof *grown);
			if (grown == NULL)
				return -1;
			*out = grown;
		}
		(*out)[(*count)++] = (struct mm_area){ .start = field[AREA_START], .end = last_end = field[AREA_END] };
	}
	return 0;
}

int mm_lazy_areas(const uint8_t *bytes, size_t length, struct mm_area **out, size_t *count)
{
	*out = NULL;
	*count = 0;
	errno = EBADMSG;
	if (length < 12 || get_u32(bytes) != MAGIC_IMAGE || get_u32(bytes + 4) != MAGIC_MM || get_u32(bytes + 8) > length - 12)
		return -1;
	if (collect((struct cursor){ .at = bytes + 12, .end = bytes + 12 + get_u32(bytes + 8) }, out, count) == 0)
		return 0;
	int error = errno;
	free(*out);
	*out = NULL;
	*count = 0;
	errno = error;
	return -1;
}
