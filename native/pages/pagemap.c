#include "pages/pagemap.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "epoch/format.h"

#define MAGIC_IMAGE 0x54564319u
#define MAGIC_PAGEMAP 0x56084025u

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { HEAD_PAGES_ID = 1, ENTRY_ADDRESS = 1, ENTRY_PAGES_OLD = 2, ENTRY_IN_PARENT = 3, ENTRY_FLAGS = 4, ENTRY_PAGES = 5 };

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
	*out = 0;
	for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
		uint8_t byte = *(*at)++;
		*out |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return true;
	}
	return false;
}

static bool skip(const uint8_t **at, const uint8_t *end, unsigned kind)
{
	uint64_t length = kind == FIXED64 ? 8 : 4;
	if (kind == VARINT)
		return read_varint(at, end, &length);
	if (kind != FIXED64 && kind != FIXED32 && (kind != BYTES || !read_varint(at, end, &length)))
		return false;
	if (length > (uint64_t)(end - *at))
		return false;
	*at += length;
	return true;
}

/* The numbers of one message by field; what is unknown is passed over. */
static bool read_message(const uint8_t *at, const uint8_t *end, uint64_t *field, unsigned fields)
{
	while (at < end) {
		uint64_t key, value;
		if (!read_varint(&at, end, &key))
			return false;
		unsigned kind = key & 7;
		uint64_t number = key >> 3;
		if (kind == VARINT && number < fields) {
			if (!read_varint(&at, end, &value))
				return false;
			field[number] = value;
		} else if (!skip(&at, end, kind)) {
			return false;
		}
	}
	return true;
}

static bool take_message(struct pagemap_reader *reader, uint64_t *field, unsigned fields)
{
	if (reader->end - reader->at < 4)
		return false;
	uint32_t length = get_u32(reader->at);
	if (length > (uint64_t)(reader->end - reader->at) - 4)
		return false;
	const uint8_t *from = reader->at + 4;
	reader->at = from + length;
	return read_message(from, reader->at, field, fields);
}

int pagemap_open(const uint8_t *bytes, size_t length, struct pagemap_reader *out, uint32_t *pages_id)
{
	uint64_t field[HEAD_PAGES_ID + 1] = { 0 };
	errno = EBADMSG;
	if (length < 8 || get_u32(bytes) != MAGIC_IMAGE || get_u32(bytes + 4) != MAGIC_PAGEMAP)
		return -1;
	*out = (struct pagemap_reader){ .at = bytes + 8, .end = bytes + length };
	if (!take_message(out, field, HEAD_PAGES_ID + 1) || field[HEAD_PAGES_ID] == 0 || field[HEAD_PAGES_ID] > UINT32_MAX)
		return -1;
	*pages_id = (uint32_t)field[HEAD_PAGES_ID];
	return 0;
}

int pagemap_next(struct pagemap_reader *reader, struct pagemap_entry *out)
{
	uint64_t field[ENTRY_PAGES + 1] = { 0 };
	if (reader->at == reader->end)
		return 0;
	errno = EBADMSG;
	if (!take_message(reader, field, ENTRY_PAGES + 1) || field[ENTRY_IN_PARENT] != 0)
		return -1;
	out->address = field[ENTRY_ADDRESS];
	out->pages = field[ENTRY_PAGES] != 0 ? field[ENTRY_PAGES] : field[ENTRY_PAGES_OLD];
	out->flags = (uint32_t)field[ENTRY_FLAGS];
	return 1;
}

static uint8_t *put_field(uint8_t *at, unsigned number, uint64_t value)
{
	*at++ = (uint8_t)(number << 3 | VARINT);
	for (; value >= 0x80; value >>= 7)
		*at++ = (uint8_t)(value | 0x80);
	*at++ = (uint8_t)value;
	return at;
}

size_t pagemap_write_head(uint8_t *out, uint32_t pages_id)
{
	put_u32(out, MAGIC_IMAGE);
	put_u32(out + 4, MAGIC_PAGEMAP);
	uint8_t *end = put_field(out + 12, HEAD_PAGES_ID, pages_id);
	put_u32(out + 8, (uint32_t)(end - (out + 12)));
	return (size_t)(end - out);
}

/* Both counts of pages, as CRIU itself writes it: the old one is required, and zero. */
size_t pagemap_write_entry(uint8_t *out, const struct pagemap_entry *entry)
{
	uint8_t *end = put_field(out + 4, ENTRY_ADDRESS, entry->address);
	end = put_field(end, ENTRY_PAGES_OLD, 0);
	end = put_field(end, ENTRY_FLAGS, entry->flags);
	end = put_field(end, ENTRY_PAGES, entry->pages);
	put_u32(out, (uint32_t)(end - (out + 4)));
	return (size_t)(end - out);
}
