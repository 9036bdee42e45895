/*
 * Invariants: bytes [0, flushed) are in the file, [flushed, flushed + used) in the buffer; a section that is open has its
 * header's place at section_at, written over when it ends; after the first error nothing is written any more.
 */
#include "epoch/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crc/crc32c.h"

#define BUFFER_BYTES (1u << 20)
#define DIRECT_BYTES (128u << 10) /* from here on data goes to the file without a copy */

struct epoch_writer {
	int fd;
	int error;
	uint64_t bytes_max;
	uint64_t flushed;
	size_t used;
	uint32_t sections, records;
	int open;
	uint64_t section_at;
	enum epoch_section_kind kind;
	uint32_t chain; /* the trailer's crc so far */
	uint8_t buffer[BUFFER_BYTES];
};

struct epoch_writer *epoch_writer_open(int fd, uint64_t bytes_max)
{
	struct epoch_writer *w = malloc(sizeof *w);
	if (w == NULL)
		return NULL;
	memset(w, 0, sizeof *w); /* touches the buffer, so that the frozen window does not */
	w->fd = fd;
	w->bytes_max = bytes_max;
	w->used = EPOCH_HEADER_BYTES; /* the header's place */
	return w;
}

void epoch_writer_close(struct epoch_writer *w)
{
	free(w);
}

uint64_t epoch_writer_bytes(const struct epoch_writer *w)
{
	return w->flushed + w->used;
}

static int broken(struct epoch_writer *w, int error)
{
	if (w->error == 0)
		w->error = error;
	errno = w->error;
	return -1;
}

static int write_all(struct epoch_writer *w, struct iovec *part, int parts, uint64_t offset)
{
	while (parts > 0) {
		ssize_t done = pwritev(w->fd, part, parts, (off_t)offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return broken(w, done == 0 ? EIO : errno);
		offset += (uint64_t)done;
		while (parts > 0 && (size_t)done >= part->iov_len) {
			done -= (ssize_t)part->iov_len;
			part++;
			parts--;
		}
		if (parts > 0) {
			part->iov_base = (uint8_t *)part->iov_base + done;
			part->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int flush_with(struct epoch_writer *w, const void *data, size_t data_bytes)
{
	struct iovec part[2] = {{w->buffer, w->used}, {(void *)(uintptr_t)data, data_bytes}};
	if (write_all(w, part, data_bytes > 0 ? 2 : 1, w->flushed) != 0)
		return -1;
	w->flushed += w->used + data_bytes;
	w->used = 0;
	return 0;
}

static int append(struct epoch_writer *w, const void *data, size_t bytes)
{
	if (bytes == 0)
		return 0;
	if (bytes >= DIRECT_BYTES)
		return flush_with(w, data, bytes);
	if (w->used + bytes > BUFFER_BYTES && flush_with(w, NULL, 0) != 0)
		return -1;
	memcpy(w->buffer + w->used, data, bytes);
	w->used += bytes;
	return 0;
}

/* Writes over bytes that were left for later, wherever they are now. */
static int overwrite(struct epoch_writer *w, uint64_t at, void *data, size_t bytes)
{
	if (at >= w->flushed) {
		memcpy(w->buffer + (at - w->flushed), data, bytes);
		return 0;
	}
	assert(at + bytes <= w->flushed);
	struct iovec part = {data, bytes};
	return write_all(w, &part, 1, at);
}

static int room(struct epoch_writer *w, uint64_t bytes)
{
	if (w->error != 0)
		return broken(w, w->error);
	return epoch_writer_bytes(w) + bytes + EPOCH_TRAILER_BYTES > w->bytes_max ? broken(w, EFBIG) : 0;
}

int epoch_section_begin(struct epoch_writer *w, enum epoch_section_kind kind)
{
	uint8_t place[EPOCH_SECTION_HEADER_BYTES] = {0};
	if (w->open || w->sections == EPOCH_SECTIONS_MAX)
		return broken(w, EINVAL);
	if (room(w, sizeof place) != 0)
		return -1;
	/* Never astride the buffer's edge, so that overwrite() finds it in one place. */
	if (w->used + sizeof place > BUFFER_BYTES && flush_with(w, NULL, 0) != 0)
		return -1;
	w->section_at = epoch_writer_bytes(w);
	w->kind = kind;
	w->records = 0;
	w->open = 1;
	return append(w, place, sizeof place);
}

int epoch_record(struct epoch_writer *w, enum epoch_record_type type, const void *head, size_t head_bytes, const void *data,
                 size_t data_bytes)
{
	uint8_t record[EPOCH_RECORD_HEADER_BYTES] = {0};
	if (!w->open || head_bytes > EPOCH_RECORD_BYTES_MAX || data_bytes > EPOCH_RECORD_BYTES_MAX - head_bytes ||
	    w->records == UINT32_MAX)
		return broken(w, EINVAL);
	if (room(w, sizeof record + head_bytes + data_bytes) != 0)
		return -1;
	put_u16(record + RECORD_TYPE, (uint16_t)type);
	put_u32(record + RECORD_LENGTH, (uint32_t)(head_bytes + data_bytes));
	put_u32(record + RECORD_ORDINAL, w->records++);
	uint32_t crc = ft_crc32c(0, record, RECORD_CRC);
	crc = ft_crc32c(crc, head, head_bytes);
	put_u32(record + RECORD_CRC, ft_crc32c(crc, data, data_bytes));
	w->chain = ft_crc32c(w->chain, record, sizeof record);
	if (append(w, record, sizeof record) != 0 || append(w, head, head_bytes) != 0)
		return -1;
	return append(w, data, data_bytes);
}

int epoch_section_end(struct epoch_writer *w)
{
	uint8_t section[EPOCH_SECTION_HEADER_BYTES] = {0};
	if (!w->open)
		return broken(w, EINVAL);
	if (w->error != 0)
		return broken(w, w->error);
	put_u32(section, EPOCH_SECTION_MAGIC);
	put_u32(section + SECTION_KIND, (uint32_t)w->kind);
	put_u32(section + SECTION_ORDINAL, w->sections++);
	put_u32(section + SECTION_RECORDS, w->records);
	put_u64(section + SECTION_BYTES, epoch_writer_bytes(w) - w->section_at - sizeof section);
	put_u32(section + SECTION_CRC, ft_crc32c(0, section, SECTION_CRC));
	w->chain = ft_crc32c(w->chain, section, sizeof section);
	w->open = 0;
	return overwrite(w, w->section_at, section, sizeof section);
}

static void encode_header(const struct epoch_header *h, uint8_t *out)
{
	memset(out, 0, EPOCH_HEADER_BYTES);
	memcpy(out, EPOCH_MAGIC, 8);
	put_u32(out + HEADER_VERSION, EPOCH_VERSION);
	put_u32(out + HEADER_FLAGS, h->flags);
	memcpy(out + HEADER_PAIR, h->pair, EPOCH_PAIR_BYTES);
	put_u64(out + HEADER_GENERATION, h->generation);
	put_u64(out + HEADER_EPOCH, h->epoch);
	put_u64(out + HEADER_BASE, h->base_epoch);
	put_u64(out + HEADER_FILES_CHAIN, h->files_chain);
	put_u64(out + HEADER_FILES_SEQ, h->files_seq);
	put_u64(out + HEADER_TOTAL, h->total_bytes);
	put_u32(out + HEADER_SECTIONS, h->section_count);
	put_u32(out + HEADER_CRC, ft_crc32c(0, out, HEADER_CRC));
}

int epoch_writer_finish(struct epoch_writer *w, struct epoch_header *header)
{
	uint8_t trailer[EPOCH_TRAILER_BYTES] = {0}, bytes[EPOCH_HEADER_BYTES];
	if (w->open)
		return broken(w, EINVAL);
	if (w->error != 0)
		return broken(w, w->error);
	header->section_count = w->sections;
	header->total_bytes = epoch_writer_bytes(w) + sizeof trailer;
	encode_header(header, bytes);
	memcpy(trailer, EPOCH_TRAILER_MAGIC, 8);
	put_u32(trailer + TRAILER_CRC, ft_crc32c(w->chain, bytes, sizeof bytes));
	if (append(w, trailer, sizeof trailer) != 0 || flush_with(w, NULL, 0) != 0)
		return -1;
	return overwrite(w, 0, bytes, sizeof bytes);
}
