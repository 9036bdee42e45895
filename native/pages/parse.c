#include "pages/parse.h"

#include <errno.h>
#include <string.h>

#include "crc/crc32c.h"

static const uint8_t zero_page[PAGE_BYTES];

static int corrupt(struct epoch_error *e, const char *what)
{
	return epoch_fail(e, "corrupt", 0, "pages: %s", what);
}

static int no_memory(struct epoch_error *e)
{
	return epoch_fail(e, "space", ENOMEM, "no memory for the table of pages");
}

/* Address and count of a range; none of the sums can overflow because each part is bounded first. */
static int read_range(struct pages_change *out, uint64_t address, uint64_t pages, uint64_t pages_max, struct epoch_error *e)
{
	out->address = address & ~(uint64_t)PAGE_LAZY;
	out->lazy = (address & PAGE_LAZY) != 0;
	out->pages = pages;
	if (out->address % PAGE_BYTES != 0 || out->address >= PAGES_ADDRESS_END || pages == 0 || pages > pages_max ||
	    pages > (PAGES_ADDRESS_END - out->address) / PAGE_BYTES || (out->type == PAGES_DROP && out->lazy))
		return corrupt(e, "a range that no process can have");
	return 1;
}

static int read_set(struct pages_change *out, const struct epoch_record_view *v, struct epoch_error *e)
{
	if (v->length_bytes != PAGES_SET_BYTES)
		return corrupt(e, "a set's head");
	out->id = get_u64(v->payload);
	out->pages_id = get_u32(v->payload + 8);
	uint32_t flags = get_u32(v->payload + 12);
	out->fresh = (flags & PAGES_FRESH) != 0;
	if (out->id == 0 || out->id > INT32_MAX || out->pages_id == 0 || (flags & ~PAGES_FRESH) != 0)
		return corrupt(e, "a set that is no process's");
	return 1;
}

static int read_packed(struct pages_change *out, const struct epoch_record_view *v, struct epoch_error *e)
{
	if (v->length_bytes <= PAGES_PACKED_HEAD_BYTES)
		return corrupt(e, "packed pages cut off");
	uint32_t how = get_u32(v->payload + 12);
	out->bytes = v->payload + PAGES_PACKED_HEAD_BYTES;
	out->packed_bytes = v->length_bytes - PAGES_PACKED_HEAD_BYTES;
	if (how != PAGES_LZ4 && how != PAGES_ZSTD)
		return corrupt(e, "pages packed in a way that is not known");
	out->how = (enum pages_packing)how;
	if (read_range(out, get_u64(v->payload), get_u32(v->payload + 8), PAGES_RUN_MAX, e) < 0)
		return -1;
	return out->packed_bytes < out->pages * PAGE_BYTES ? 1 : corrupt(e, "pages that are not packed");
}

const uint8_t *pages_change_bytes(const struct pages_change *change, struct pages_unpacker *unpacker, struct epoch_error *e)
{
	if (change->type != PAGES_PACKED)
		return change->bytes;
	const uint8_t *bytes = pages_unpack(unpacker, change->how, change->bytes, change->packed_bytes, change->pages);
	if (bytes == NULL)
		(void)(errno == ENOMEM ? no_memory(e) : corrupt(e, "packed pages that are none"));
	return bytes;
}

int pages_change_next(struct epoch_cursor *cursor, struct pages_change *out, struct epoch_error *e)
{
	struct epoch_record_view v;
	if (!epoch_cursor_next(cursor, &v))
		return 0;
	*out = (struct pages_change){ .type = v.type };
	uint32_t length = v.length_bytes;
	switch (v.type) {
	case PAGES_SET:
		return read_set(out, &v, e);
	case PAGES_DROP:
	case PAGES_ZERO:
		if (length != PAGES_RANGE_BYTES)
			return corrupt(e, "a range's length");
		return read_range(out, get_u64(v.payload), get_u64(v.payload + 8),
				  v.type == PAGES_ZERO ? PAGES_ZERO_MAX : PAGES_ADDRESS_END / PAGE_BYTES, e);
	case PAGES_DATA:
		if (length <= PAGES_DATA_HEAD_BYTES || (length - PAGES_DATA_HEAD_BYTES) % PAGE_BYTES != 0)
			return corrupt(e, "pages cut off");
		out->bytes = v.payload + PAGES_DATA_HEAD_BYTES;
		return read_range(out, get_u64(v.payload), (length - PAGES_DATA_HEAD_BYTES) / PAGE_BYTES, PAGES_RUN_MAX, e);
	case PAGES_PACKED:
		return read_packed(out, &v, e);
	case PAGES_END:
		if (length != PAGES_END_BYTES)
			return corrupt(e, "a set's end");
		out->pages = get_u64(v.payload);
		out->digest = get_u64(v.payload + 8);
		return 1;
	case PAGES_GONE:
		if (length != PAGES_GONE_BYTES)
			return corrupt(e, "a process that is gone");
		out->id = get_u64(v.payload);
		return 1;
	default:
		return corrupt(e, "a record of no known kind");
	}
}

/* ---- the table after a section ---- */

struct builder {
	const struct pages_table *base; /* NULL: full */
	struct pages_table *table;
	bool redo;
	size_t next; /* sets of the base accounted for */
	uint64_t last_id;
	struct pages_set *set; /* being changed, or NULL */
	bool dropping;
	uint64_t reached; /* of its addresses */
	struct pages_unpacker unpacker;
	struct epoch_error *e;
};

/* Ids ascend, and every set of the base has its turn. */
static int reach_id(struct builder *b, uint64_t id, const struct pages_set **old)
{
	*old = NULL;
	if (b->set != NULL || id <= b->last_id)
		return corrupt(b->e, "sets out of order, or one without an end");
	b->last_id = id;
	while (b->base != NULL && b->next < b->base->count && b->base->set[b->next].id < id) {
		if (!b->redo)
			return epoch_fail(b->e, "base", 0, "process %llu of the base is not accounted for",
					  (unsigned long long)b->base->set[b->next].id);
		b->next++;
	}
	if (b->base != NULL && b->next < b->base->count && b->base->set[b->next].id == id)
		*old = &b->base->set[b->next++];
	return 0;
}

static int begin_set(struct builder *b, const struct pages_change *change)
{
	const struct pages_set *old;
	if (reach_id(b, change->id, &old) != 0)
		return -1;
	if (!change->fresh && old == NULL)
		return epoch_fail(b->e, "base", 0, "the memory of process %llu is built upon one that is not here",
				  (unsigned long long)change->id);
	if (b->table->count == PAGES_SETS_MAX)
		return corrupt(b->e, "too many processes");
	b->set = change->fresh ? pages_table_add(b->table, change->id, change->pages_id)
			       : pages_table_share(b->table, old, change->pages_id);
	b->dropping = true;
	b->reached = 0;
	return b->set == NULL ? no_memory(b->e) : 0;
}

static int put_pages(struct builder *b, const struct pages_change *change)
{
	bool zero = change->type == PAGES_ZERO;
	const uint8_t *bytes = zero ? NULL : pages_change_bytes(change, &b->unpacker, b->e);
	struct page_state state = { .lazy = change->lazy, .crc = zero ? ft_crc32c(0, zero_page, PAGE_BYTES) : 0 };
	if (!zero && bytes == NULL)
		return -1;
	for (uint64_t i = 0; i < change->pages; i++) {
		if (!zero)
			state.crc = ft_crc32c(0, bytes + i * PAGE_BYTES, PAGE_BYTES);
		if (pages_put(b->table, b->set, change->address + i * PAGE_BYTES, &state) != 0)
			return no_memory(b->e);
	}
	return 0;
}

static int change_range(struct builder *b, const struct pages_change *change)
{
	bool drops = change->type == PAGES_DROP;
	if (b->set == NULL || (drops && !b->dropping))
		return corrupt(b->e, "a range that belongs to no set, or is out of order");
	if (!drops && b->dropping)
		b->reached = 0;
	b->dropping = drops;
	if (change->address < b->reached)
		return corrupt(b->e, "ranges overlap or are out of order");
	b->reached = change->address + change->pages * PAGE_BYTES;
	if (!drops)
		return put_pages(b, change);
	return pages_drop(b->table, b->set, change->address, b->reached) == 0 ? 0 : no_memory(b->e);
}

static int end_set(struct builder *b, const struct pages_change *change)
{
	if (b->set == NULL)
		return corrupt(b->e, "an end without a beginning");
	if (b->set->pages != change->pages || b->set->digest != change->digest)
		return epoch_fail(b->e, "base", 0, "the memory of process %llu would not be what the primary has: its base differs",
				  (unsigned long long)b->set->id);
	b->set = NULL;
	return 0;
}

static int take_gone(struct builder *b, const struct pages_change *change)
{
	const struct pages_set *old;
	if (reach_id(b, change->id, &old) != 0)
		return -1;
	return old != NULL || b->redo ? 0 : epoch_fail(b->e, "base", 0, "a process is gone that was not there");
}

static int take_change(struct builder *b, const struct pages_change *change)
{
	switch (change->type) {
	case PAGES_SET: return begin_set(b, change);
	case PAGES_END: return end_set(b, change);
	case PAGES_GONE: return take_gone(b, change);
	default: return change_range(b, change);
	}
}

static int take_section(struct builder *b, const struct epoch_section *section)
{
	struct epoch_cursor cursor = epoch_cursor_of(section);
	struct pages_change change;
	int more;
	while ((more = pages_change_next(&cursor, &change, b->e)) == 1)
		if (take_change(b, &change) != 0)
			return -1;
	if (more == 0 && b->set != NULL)
		return corrupt(b->e, "the last set has no end");
	if (more == 0 && b->base != NULL && b->next < b->base->count && !b->redo)
		return epoch_fail(b->e, "base", 0, "process %llu of the base is not accounted for",
				  (unsigned long long)b->base->set[b->next].id);
	return more;
}

static int share_all(struct builder *b)
{
	for (size_t i = 0; b->base != NULL && i < b->base->count; i++)
		if (pages_table_share(b->table, &b->base->set[i], b->base->set[i].pages_id) == NULL)
			return no_memory(b->e);
	return 0;
}

struct pages_table *pages_table_next(const struct pages_table *base, const struct epoch_section *section, bool full, bool redo,
				     struct epoch_error *e)
{
	struct builder b = { .base = full ? NULL : base, .table = pages_table_new(false), .redo = redo, .e = e };
	int result = b.table == NULL ? no_memory(e) : section == NULL ? share_all(&b) : take_section(&b, section);
	pages_unpacker_close(&b.unpacker);
	if (result == 0)
		return b.table;
	pages_table_free(b.table);
	return NULL;
}

uint64_t pages_apply_needs(const struct pages_table *before, const struct pages_table *after)
{
	uint64_t had = pages_table_pages(before), has = pages_table_pages(after);
	uint64_t grown = has > had ? has - had : 0;
	return grown * PAGE_BYTES + (grown / CHUNK_PAGES + after->count) * PAGE_BYTES;
}
