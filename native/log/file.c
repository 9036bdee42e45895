#include "log/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "crc/crc32c.h"

static uint64_t pages(uint64_t bytes)
{
	return (bytes + LOG_PAGE_BYTES - 1) / LOG_PAGE_BYTES * LOG_PAGE_BYTES;
}

static uint64_t lanes_offset(void) { return 2 * LOG_PAGE_BYTES; }
static uint64_t directory_offset(uint32_t lanes) { return lanes_offset() + pages(lanes * sizeof(struct log_lane)); }
static uint64_t in_use_offset(uint32_t lanes, uint32_t segments)
{
	return directory_offset(lanes) + pages((uint64_t)lanes * segments * 8);
}
static uint64_t segments_offset(uint32_t lanes, uint32_t segments)
{
	return in_use_offset(lanes, segments) + pages(LOG_SEGMENTS_MAX / 8);
}

uint64_t log_file_bytes(uint32_t lane_count, uint32_t segment_count)
{
	return segments_offset(lane_count, segment_count) + (uint64_t)segment_count * LOG_SEGMENT_BYTES;
}

static uint32_t header_crc(const struct log_header *header)
{
	uint8_t fixed[64];
	memcpy(fixed, header, sizeof fixed);
	memset(fixed + offsetof(struct log_header, crc), 0, 4);
	return ft_crc32c(0, fixed, sizeof fixed);
}

static bool counts_are_sane(uint32_t lanes, uint32_t segments)
{
	return lanes > 0 && lanes <= LOG_LANES_MAX && segments > 1 && segments <= LOG_SEGMENTS_MAX;
}

int log_create(const char *path, uint32_t lane_count, uint32_t segment_count, enum log_mode mode)
{
	if (!counts_are_sane(lane_count, segment_count))
		return -EINVAL;
	struct log_header header = {.magic = LOG_MAGIC, .version = LOG_VERSION, .lane_count = lane_count,
		.segment_count = segment_count, .file_bytes = log_file_bytes(lane_count, segment_count)};
	if (getrandom(header.log_id, sizeof header.log_id, 0) != sizeof header.log_id)
		return -errno;
	header.crc = header_crc(&header);
	atomic_store(&header.mode, mode);
	uint32_t number;
	memcpy(&number, header.log_id, sizeof number);
	atomic_store(&header.after_replay, mode == LOG_MODE_ANEW ? number : LOG_MODE_LIVE);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int failed = 0;
	if (ftruncate(fd, (off_t)header.file_bytes) != 0)
		failed = -errno;
	else if (pwrite(fd, &header, sizeof header, 0) != sizeof header)
		failed = -EIO;
	if (close(fd) != 0 && failed == 0)
		failed = -errno;
	return failed;
}

static void place(struct log_file *log, uint8_t *base)
{
	log->header = (struct log_header *)base;
	log->report = (struct log_report *)(base + LOG_PAGE_BYTES);
	log->lanes = (struct log_lane *)(base + lanes_offset());
	log->directory = (_Atomic uint64_t *)(base + directory_offset(log->lane_count));
	log->in_use = (_Atomic uint64_t *)(base + in_use_offset(log->lane_count, log->segment_count));
	log->segments = base + segments_offset(log->lane_count, log->segment_count);
}

static int check_header(const struct log_header *header, uint64_t file_bytes)
{
	if (header->magic != LOG_MAGIC)
		return -EBADMSG;
	if (header->version != LOG_VERSION)
		return -EPROTO;
	if (header->crc != header_crc(header) || !counts_are_sane(header->lane_count, header->segment_count))
		return -EBADMSG;
	if (header->file_bytes != file_bytes || file_bytes != log_file_bytes(header->lane_count, header->segment_count))
		return -EBADMSG;
	return 0;
}

int log_map(const char *path, bool writable, struct log_file *out)
{
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct log_header header;
	int failed = 0;
	off_t file_bytes = lseek(fd, 0, SEEK_END); /* not fstat(): its symbol is newer than glibc 2.31 */
	if (file_bytes < 0)
		failed = -errno;
	else if (pread(fd, &header, sizeof header, 0) != sizeof header)
		failed = -EBADMSG;
	else
		failed = check_header(&header, (uint64_t)file_bytes);
	void *base = MAP_FAILED;
	if (failed == 0) {
		base = mmap(NULL, header.file_bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
		if (base == MAP_FAILED)
			failed = -errno;
	}
	close(fd);
	if (failed != 0)
		return failed;
	*out = (struct log_file){.lane_count = header.lane_count, .segment_count = header.segment_count,
		.file_bytes = header.file_bytes};
	place(out, base);
	return 0;
}

const char *log_why(int error)
{
	switch (error) {
	case -EBADMSG: return "not an event log, or damaged";
	case -EPROTO: return "an event log of another version";
	default: return strerror(-error);
	}
}

void log_unmap(struct log_file *log)
{
	if (log->header != NULL)
		munmap(log->header, log->file_bytes);
	log->header = NULL;
}

static int take_segment(const struct log_file *log, uint32_t *segment)
{
	for (uint32_t word = 0; word * 64 < log->segment_count; word++) {
		uint64_t bits = atomic_load(&log->in_use[word]);
		while (~bits != 0) {
			uint32_t bit = (uint32_t)__builtin_ctzll(~bits);
			if (word * 64 + bit >= log->segment_count)
				return -ENOSPC;
			if (atomic_compare_exchange_strong(&log->in_use[word], &bits, bits | 1ull << bit)) {
				*segment = word * 64 + bit;
				return 0;
			}
		}
	}
	return -ENOSPC;
}

static void give_segment(const struct log_file *log, uint32_t segment)
{
	atomic_fetch_and(&log->in_use[segment / 64], ~(1ull << segment % 64));
}

uint8_t *log_extend(const struct log_file *log, uint32_t lane, uint64_t position)
{
	uint64_t part = position / LOG_SEGMENT_BYTES;
	_Atomic uint64_t *entry = &log->directory[(uint64_t)lane * log->segment_count + part % log->segment_count];
	uint8_t *there = log_at(log, lane, position);
	uint32_t segment;
	if (there != NULL || take_segment(log, &segment) != 0)
		return there;
	uint64_t nothing = 0;
	/* Not empty: a part of long ago that is not trimmed, or this one: made by the thread whose copy we are. */
	if (!atomic_compare_exchange_strong(entry, &nothing, log_entry(part, segment)))
		give_segment(log, segment);
	return log_at(log, lane, position);
}

void log_trim(const struct log_file *log, uint32_t lane, uint64_t position)
{
	struct log_lane *l = &log->lanes[lane];
	uint64_t tail = atomic_load(&l->tail);
	if (position <= tail)
		return;
	atomic_store(&l->tail, position);
	for (uint64_t part = tail / LOG_SEGMENT_BYTES; part < position / LOG_SEGMENT_BYTES; part++) {
		_Atomic uint64_t *entry = &log->directory[(uint64_t)lane * log->segment_count + part % log->segment_count];
		uint64_t was = atomic_load(entry);
		if (was == 0 || log_entry_part(was) != part || log_entry_segment(was) >= log->segment_count)
			continue;
		atomic_store(entry, 0);
		give_segment(log, log_entry_segment(was));
	}
}

uint64_t log_free_bytes(const struct log_file *log)
{
	uint64_t used = 0;
	for (uint32_t word = 0; word * 64 < log->segment_count; word++)
		used += (uint64_t)__builtin_popcountll(atomic_load(&log->in_use[word]));
	return used > log->segment_count ? 0 : (log->segment_count - used) * LOG_SEGMENT_BYTES;
}
