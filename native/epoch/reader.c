#include "epoch/reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"

struct epoch_reader {
	const uint8_t *map;
	uint64_t bytes;
	struct epoch_header header;
	uint32_t sections;
	struct epoch_section section[EPOCH_SECTIONS_MAX];
};

int epoch_fail(struct epoch_error *e, const char *code, int error, const char *format, ...)
{
	if (e == NULL)
		return -1;
	va_list arguments;
	va_start(arguments, format);
	snprintf(e->code, sizeof e->code, "%s", code);
	e->error = error;
	vsnprintf(e->detail, sizeof e->detail, format, arguments);
	va_end(arguments);
	return -1;
}

static int corrupt(struct epoch_error *e, const char *what)
{
	return epoch_fail(e, "corrupt", 0, "%s", what);
}

static int pair_is_well_formed(const char *pair)
{
	size_t length = strnlen(pair, EPOCH_PAIR_BYTES);
	if (length == 0 || length == EPOCH_PAIR_BYTES)
		return 0;
	for (size_t i = 0; i < EPOCH_PAIR_BYTES; i++) {
		char c = pair[i];
		if (i >= length ? c != 0 : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return 0;
	}
	return 1;
}

static int header_is_coherent(const struct epoch_header *h)
{
	if (h->flags & ~(uint32_t)(EPOCH_FULL | EPOCH_FILES_ONLY))
		return 0;
	if ((h->files_chain == 0) != (h->files_seq == 0) || h->section_count > EPOCH_SECTIONS_MAX)
		return 0;
	if (h->flags & EPOCH_FILES_ONLY)
		return h->epoch == 0 && h->base_epoch == 0 && !(h->flags & EPOCH_FULL) && h->files_seq != 0;
	if (h->flags & EPOCH_FULL)
		return h->epoch > 0 && h->base_epoch == 0;
	return h->epoch > 0 && h->base_epoch > 0 && h->base_epoch < h->epoch;
}

static int read_header(struct epoch_reader *r, struct epoch_error *e)
{
	const uint8_t *at = r->map;
	struct epoch_header *h = &r->header;
	if (memcmp(at, EPOCH_MAGIC, 8) != 0)
		return corrupt(e, "this is not an epoch: wrong magic number");
	/* The version comes before the checksum: another version may have another header. */
	if (get_u32(at + HEADER_VERSION) != EPOCH_VERSION)
		return epoch_fail(e, "version", 0, "the epoch has format version %u, this program reads %u",
		                  get_u32(at + HEADER_VERSION), EPOCH_VERSION);
	if (get_u32(at + HEADER_CRC) != ft_crc32c(0, at, HEADER_CRC))
		return corrupt(e, "the header's checksum does not match");
	h->flags = get_u32(at + HEADER_FLAGS);
	memcpy(h->pair, at + HEADER_PAIR, EPOCH_PAIR_BYTES);
	h->generation = get_u64(at + HEADER_GENERATION);
	h->epoch = get_u64(at + HEADER_EPOCH);
	h->base_epoch = get_u64(at + HEADER_BASE);
	h->files_chain = get_u64(at + HEADER_FILES_CHAIN);
	h->files_seq = get_u64(at + HEADER_FILES_SEQ);
	h->total_bytes = get_u64(at + HEADER_TOTAL);
	h->section_count = get_u32(at + HEADER_SECTIONS);
	for (unsigned i = HEADER_RESERVED; i < HEADER_CRC; i++)
		if (at[i] != 0)
			return corrupt(e, "reserved bytes of the header are not zero");
	if (!pair_is_well_formed(h->pair) || !header_is_coherent(h))
		return corrupt(e, "the header contradicts itself");
	if (h->total_bytes != r->bytes)
		return epoch_fail(e, "corrupt", 0, "the header says %llu bytes, the file has %llu",
		                  (unsigned long long)h->total_bytes, (unsigned long long)r->bytes);
	return 0;
}

static int read_records(const struct epoch_section *s, uint32_t *chain, struct epoch_error *e)
{
	const uint8_t *at = s->start, *end = s->start + s->bytes;
	for (uint32_t n = 0; n < s->record_count; n++) {
		if ((uint64_t)(end - at) < EPOCH_RECORD_HEADER_BYTES)
			return corrupt(e, "a record is cut off");
		uint32_t length = get_u32(at + RECORD_LENGTH);
		if (length > EPOCH_RECORD_BYTES_MAX || length > (uint64_t)(end - at) - EPOCH_RECORD_HEADER_BYTES)
			return corrupt(e, "a record is longer than its section");
		if (get_u32(at + RECORD_ORDINAL) != n || get_u16(at + RECORD_TYPE + 2) != 0)
			return corrupt(e, "a record is out of place");
		uint32_t crc = ft_crc32c(0, at, RECORD_CRC);
		if (get_u32(at + RECORD_CRC) != ft_crc32c(crc, at + EPOCH_RECORD_HEADER_BYTES, length))
			return corrupt(e, "a record's checksum does not match");
		*chain = ft_crc32c(*chain, at, EPOCH_RECORD_HEADER_BYTES);
		at += EPOCH_RECORD_HEADER_BYTES + length;
	}
	return at == end ? 0 : corrupt(e, "a section is longer than its records");
}

static int read_section(struct epoch_reader *r, const uint8_t **at, const uint8_t *end, uint32_t *chain,
                        struct epoch_error *e)
{
	const uint8_t *header = *at;
	if ((uint64_t)(end - header) < EPOCH_SECTION_HEADER_BYTES)
		return corrupt(e, "a section is cut off");
	if (get_u32(header) != EPOCH_SECTION_MAGIC ||
	    get_u32(header + SECTION_CRC) != ft_crc32c(0, header, SECTION_CRC))
		return corrupt(e, "a section's checksum does not match");
	struct epoch_section *s = &r->section[r->sections];
	uint32_t kind = get_u32(header + SECTION_KIND);
	s->record_count = get_u32(header + SECTION_RECORDS);
	s->bytes = get_u64(header + SECTION_BYTES);
	s->start = header + EPOCH_SECTION_HEADER_BYTES;
	if (get_u32(header + SECTION_ORDINAL) != r->sections || get_u32(header + SECTION_RESERVED) != 0)
		return corrupt(e, "a section is out of place");
	if (kind != EPOCH_SECTION_FILES && kind != EPOCH_SECTION_IMAGES && kind != EPOCH_SECTION_PAGES)
		return corrupt(e, "a section is of no known kind");
	s->kind = (enum epoch_section_kind)kind;
	if (s->bytes > (uint64_t)(end - s->start))
		return corrupt(e, "a section is longer than the file");
	*at = s->start + s->bytes;
	r->sections++;
	if (read_records(s, chain, e) != 0)
		return -1;
	*chain = ft_crc32c(*chain, header, EPOCH_SECTION_HEADER_BYTES);
	return 0;
}

/* Files first, only with their chain; then pages and images, once each. A presync has neither. */
static int kinds_are_coherent(const struct epoch_reader *r)
{
	uint32_t pages = 0, images = 0, once = r->header.flags & EPOCH_FILES_ONLY ? 0 : 1;
	for (uint32_t i = 0; i < r->sections; i++) {
		if (images > 0)
			return 0;
		if (r->section[i].kind == EPOCH_SECTION_IMAGES)
			images++;
		else if (r->section[i].kind == EPOCH_SECTION_PAGES)
			pages++;
		else if (pages > 0 || r->header.files_seq == 0)
			return 0;
	}
	return images == once && pages <= once;
}

static int verify(struct epoch_reader *r, struct epoch_error *e)
{
	uint32_t chain = 0;
	if (r->bytes < EPOCH_HEADER_BYTES + EPOCH_TRAILER_BYTES)
		return corrupt(e, "the file is too short for an epoch");
	if (read_header(r, e) != 0)
		return -1;
	const uint8_t *at = r->map + EPOCH_HEADER_BYTES, *end = r->map + r->bytes - EPOCH_TRAILER_BYTES;
	for (uint32_t i = 0; i < r->header.section_count; i++)
		if (read_section(r, &at, end, &chain, e) != 0)
			return -1;
	if (at != end)
		return corrupt(e, "bytes between the last section and the trailer");
	chain = ft_crc32c(chain, r->map, EPOCH_HEADER_BYTES);
	if (memcmp(end, EPOCH_TRAILER_MAGIC, 8) != 0 || get_u32(end + TRAILER_RESERVED) != 0 ||
	    get_u32(end + TRAILER_CRC) != chain)
		return corrupt(e, "the trailer does not match");
	return kinds_are_coherent(r) ? 0 : corrupt(e, "the sections do not fit the header");
}

int epoch_reader_open(int fd, uint64_t bytes_max, struct epoch_reader **out, struct epoch_error *e)
{
	struct stat st;
	*out = NULL;
	if (fstat(fd, &st) != 0)
		return epoch_fail(e, "io", errno, "cannot stat the epoch's file");
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return corrupt(e, "the epoch is no regular file, or empty");
	if ((uint64_t)st.st_size > bytes_max)
		return epoch_fail(e, "space", EFBIG, "the epoch has %lld bytes, the limit is %llu", (long long)st.st_size,
		                  (unsigned long long)bytes_max);
	/* Written from end to end; and reading a mapped hole of a full tmpfs would kill this process. */
	off_t hole = lseek(fd, 0, SEEK_HOLE);
	if (hole >= 0 && hole < st.st_size)
		return corrupt(e, "the epoch's file has holes");
	struct epoch_reader *r = calloc(1, sizeof *r);
	if (r == NULL)
		return epoch_fail(e, "space", errno, "no memory for a reader");
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED) {
		int error = errno;
		free(r);
		return epoch_fail(e, "io", error, "cannot map the epoch's file");
	}
	r->map = map;
	r->bytes = (uint64_t)st.st_size;
	if (verify(r, e) != 0) {
		epoch_reader_close(r);
		return -1;
	}
	*out = r;
	return 0;
}

void epoch_reader_close(struct epoch_reader *r)
{
	if (r == NULL)
		return;
	munmap((void *)(uintptr_t)r->map, (size_t)r->bytes);
	free(r);
}

const struct epoch_header *epoch_reader_header(const struct epoch_reader *r)
{
	return &r->header;
}

const struct epoch_section *epoch_reader_section(const struct epoch_reader *r, uint32_t index)
{
	return index < r->sections ? &r->section[index] : NULL;
}

int epoch_cursor_next(struct epoch_cursor *c, struct epoch_record_view *out)
{
	if (c->at >= c->end)
		return 0;
	out->type = (enum epoch_record_type)get_u16(c->at + RECORD_TYPE);
	out->length_bytes = get_u32(c->at + RECORD_LENGTH);
	out->payload = c->at + EPOCH_RECORD_HEADER_BYTES;
	c->at += EPOCH_RECORD_HEADER_BYTES + out->length_bytes;
	return 1;
}
