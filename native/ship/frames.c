#include "ship/frames.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"

static uint32_t header_crc(const struct frames_header *header)
{
	uint8_t fixed[64];
	memcpy(fixed, header, sizeof fixed);
	memset(fixed + offsetof(struct frames_header, crc), 0, 4);
	return ft_crc32c(0, fixed, sizeof fixed);
}

static bool ring_is_sane(uint64_t ring_bytes)
{
	return ring_bytes >= FRAMES_RING_BYTES_MIN && ring_bytes <= FRAMES_RING_BYTES_MAX && ring_bytes % 4096 == 0;
}

/* Written whole under another name: a half-made file is never found. */
static int make(const char *path, uint64_t ring_bytes)
{
	char temporary[4096];
	struct frames_header header = {.magic = FRAMES_MAGIC, .version = FRAMES_VERSION, .ring_bytes = ring_bytes};
	if (!ring_is_sane(ring_bytes) || snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary)
		return -EINVAL;
	header.crc = header_crc(&header);
	int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int failed = 0;
	if (ftruncate(fd, (off_t)(FRAMES_PAGE_BYTES + ring_bytes)) != 0)
		failed = -errno;
	else if (pwrite(fd, &header, sizeof header, 0) != sizeof header)
		failed = errno == ENOSPC ? -ENOSPC : -EIO;
	else if (rename(temporary, path) != 0)
		failed = -errno;
	close(fd);
	if (failed != 0)
		unlink(temporary);
	return failed;
}

static int check(const struct frames_header *header, uint64_t file_bytes)
{
	if (header->magic != FRAMES_MAGIC)
		return -EBADMSG;
	if (header->version != FRAMES_VERSION)
		return -EPROTO;
	if (header->crc != header_crc(header) || !ring_is_sane(header->ring_bytes) ||
	    file_bytes != FRAMES_PAGE_BYTES + header->ring_bytes || atomic_load(&header->active) > 1)
		return -EBADMSG;
	const struct frames_state *state = &header->states[atomic_load(&header->active)];
	return state->tail <= state->head && state->head - state->tail <= header->ring_bytes ? 0 : -EBADMSG;
}

static int map(struct frames *frames, int fd, bool writable)
{
	struct stat status;
	struct frames_header header;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (pread(fd, &header, sizeof header, 0) != sizeof header)
		return -EBADMSG;
	int failed = check(&header, (uint64_t)status.st_size);
	if (failed != 0)
		return failed;
	void *base = mmap(NULL, (size_t)status.st_size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	frames->header = base;
	frames->ring = (uint8_t *)base + FRAMES_PAGE_BYTES;
	frames->ring_bytes = header.ring_bytes;
	frames->now = header.states[atomic_load(&header.active)];
	return 0;
}

static int open_file(struct frames *frames, const char *path, bool writable)
{
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	memset(frames, 0, sizeof *frames);
	int failed = map(frames, fd, writable);
	if (failed == 0 && writable)
		failed = room_open(&frames->room, fd, FRAMES_PAGE_BYTES + frames->ring_bytes);
	if (failed != 0 || !writable)
		close(fd);
	if (failed != 0)
		frames_close(frames);
	return failed;
}

int frames_open(struct frames *frames, const char *path, uint64_t ring_bytes)
{
	int failed = open_file(frames, path, true);
	if (failed != -ENOENT)
		return failed;
	failed = make(path, ring_bytes);
	if (failed == 0)
		failed = open_file(frames, path, true);
	frames->made = failed == 0;
	return failed;
}

int frames_open_reader(struct frames *frames, const char *path)
{
	return open_file(frames, path, false);
}

void frames_close(struct frames *frames)
{
	if (frames->header != NULL)
		munmap(frames->header, FRAMES_PAGE_BYTES + frames->ring_bytes);
	frames->header = NULL;
	room_close(&frames->room);
}

/* Up to where the ring turns; then the rest. */
static uint64_t first_part(const struct frames *frames, uint64_t at, uint64_t size)
{
	uint64_t left = frames->ring_bytes - at % frames->ring_bytes;
	return size < left ? size : left;
}

int frames_append(struct frames *frames, const uint8_t *entry, uint64_t size)
{
	uint64_t at = frames->now.head, first = first_part(frames, at, size);
	if (size > frames->ring_bytes - frames_used(frames))
		return -EBADMSG;
	int failed = room_take(&frames->room, FRAMES_PAGE_BYTES + at % frames->ring_bytes, first);
	if (failed == 0)
		failed = room_take(&frames->room, FRAMES_PAGE_BYTES, size - first);
	if (failed != 0)
		return failed;
	memcpy(frames->ring + at % frames->ring_bytes, entry, first);
	memcpy(frames->ring, entry + first, size - first);
	frames->now.head += size;
	return 0;
}

static void fetch(const struct frames *frames, uint64_t at, void *out, uint64_t size)
{
	uint64_t first = first_part(frames, at, size);
	memcpy(out, frames->ring + at % frames->ring_bytes, first);
	memcpy((uint8_t *)out + first, frames->ring, size - first);
}

/* The header of the entry at `at`, if it fits in what the ring holds. */
static bool peek(const struct frames *frames, uint64_t at, struct ship_entry *entry)
{
	if (frames->now.head - at < sizeof *entry)
		return false;
	fetch(frames, at, entry, sizeof *entry);
	return entry->length <= SHIP_PAYLOAD_BYTES_MAX && ship_is_frame(entry->kind) &&
	       ship_entry_size(entry->length) <= frames->now.head - at;
}

bool frames_trim(struct frames *frames, uint64_t epoch)
{
	struct ship_entry entry;
	uint64_t at = frames->now.tail;
	for (; at < frames->now.head; at += ship_entry_size(entry.length)) {
		if (!peek(frames, at, &entry))
			return false;
		if (entry.kind != SHIP_CHECKPOINT || entry.position != epoch)
			continue;
		frames->now.tail = at;
		frames->now.trimmed = epoch;
		return true;
	}
	return true; /* it has been trimmed already: a stream that goes on says things again */
}

void frames_commit(struct frames *frames)
{
	uint32_t next = !atomic_load_explicit(&frames->header->active, memory_order_relaxed);
	frames->header->states[next] = frames->now;
	atomic_store_explicit(&frames->header->active, next, memory_order_release);
}

int64_t frames_read(const struct frames *frames, uint64_t at, struct ship_entry *entry, uint8_t *payload,
		    uint64_t payload_bytes_max)
{
	static const uint8_t zeros[8];
	if (at == frames->now.head)
		return 0;
	if (at < frames->now.tail || at > frames->now.head || !peek(frames, at, entry) ||
	    entry->length > payload_bytes_max)
		return -1;
	fetch(frames, at + sizeof *entry, payload, entry->length);
	uint32_t crc = ft_crc32c(0, (const uint8_t *)entry + 4, sizeof *entry - 4);
	crc = ft_crc32c(crc, payload, entry->length);
	crc = ft_crc32c(crc, zeros, ship_padded(entry->length) - entry->length);
	return crc == entry->crc ? (int64_t)ship_entry_size(entry->length) : -1;
}
