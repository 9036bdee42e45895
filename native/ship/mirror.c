#include "ship/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log/stored.h"

int mirror_open(struct mirror *mirror, const char *log_path, const char *frames_path, uint64_t ring_bytes)
{
	memset(mirror, 0, sizeof *mirror);
	if (snprintf(mirror->log_path, sizeof mirror->log_path, "%s", log_path) >= (int)sizeof mirror->log_path)
		return -ENAMETOOLONG;
	int failed = frames_open(&mirror->frames, frames_path, ring_bytes);
	mirror->open = failed == 0;
	/* A log without its frames file is somebody else's. */
	if (failed == 0 && mirror->frames.made && access(log_path, F_OK) == 0)
		mirror_spend(mirror);
	return failed;
}

void mirror_spend(struct mirror *mirror)
{
	mirror->frames.now.spent = 1;
	frames_commit(&mirror->frames);
}

void mirror_close(struct mirror *mirror)
{
	if (mirror->has_log) {
		log_unmap(&mirror->log);
		room_close(&mirror->room);
	}
	if (mirror->open)
		frames_close(&mirror->frames);
	mirror->open = mirror->has_log = false;
}

/* Of the size that the header says; log_map() says whether it is a header at all. */
static int make_log(const char *path, const uint8_t log_header[SHIP_LOG_HEADER_BYTES])
{
	char temporary[300];
	struct log_header header;
	struct log_file probe;
	memset(&header, 0, sizeof header);
	memcpy(&header, log_header, SHIP_LOG_HEADER_BYTES);
	if (header.lane_count > LOG_LANES_MAX || header.segment_count > LOG_SEGMENTS_MAX ||
	    header.file_bytes != log_file_bytes(header.lane_count, header.segment_count))
		return -EBADMSG;
	snprintf(temporary, sizeof temporary, "%s.new", path);
	int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int failed = 0;
	/* The directories and all before them at once: they are written here and there. */
	uint64_t front = header.file_bytes - (uint64_t)header.segment_count * LOG_SEGMENT_BYTES;
	if (ftruncate(fd, (off_t)header.file_bytes) != 0 || fallocate(fd, 0, 0, (off_t)front) != 0 ||
	    pwrite(fd, &header, sizeof header, 0) != sizeof header)
		failed = errno == 0 ? -EIO : -errno;
	close(fd);
	if (failed == 0)
		failed = log_map(temporary, false, &probe);
	if (failed == 0) {
		log_unmap(&probe);
		failed = rename(temporary, path) != 0 ? -errno : 0;
	}
	if (failed != 0)
		unlink(temporary);
	return failed;
}

static int open_log(struct mirror *mirror)
{
	int failed = log_map(mirror->log_path, true, &mirror->log);
	if (failed != 0)
		return failed;
	int fd = open(mirror->log_path, O_RDWR | O_CLOEXEC);
	failed = fd < 0 ? -errno : room_open(&mirror->room, fd, mirror->log.file_bytes);
	if (failed != 0) {
		if (fd >= 0)
			close(fd);
		log_unmap(&mirror->log);
		return failed;
	}
	mirror->has_log = true;
	return 0;
}

enum ship_verdict mirror_adopt_log(struct mirror *mirror, const uint8_t log_header[SHIP_LOG_HEADER_BYTES])
{
	int failed = 0;
	uint32_t version;
	memcpy(&version, log_header + offsetof(struct log_header, version), sizeof version);
	if (version != LOG_VERSION)
		return SHIP_REFUSED_LOG_VERSION;
	if (mirror->frames.now.spent != 0)
		return SHIP_REFUSED_LOG;
	if (!mirror->has_log) {
		if (access(mirror->log_path, F_OK) != 0)
			failed = make_log(mirror->log_path, log_header);
		if (failed == 0)
			failed = open_log(mirror);
	}
	if (failed == -EPROTO)
		return SHIP_REFUSED_LOG_VERSION;
	if (failed == -EBADMSG)
		return SHIP_REFUSED_LOG;
	if (failed != 0)
		return SHIP_REFUSED_STORE;
	return memcmp(mirror->log.header, log_header, SHIP_LOG_HEADER_BYTES) == 0 ? SHIP_ACCEPTED : SHIP_REFUSED_LOG;
}

enum ship_verdict mirror_adopt_stream(struct mirror *mirror, uint64_t generation,
				      const uint8_t stream[SHIP_STREAM_BYTES])
{
	struct frames_state *now = &mirror->frames.now;
	if (generation < now->generation)
		return SHIP_REFUSED_GENERATION;
	if (generation == now->generation && memcmp(stream, now->stream, SHIP_STREAM_BYTES) == 0)
		return SHIP_ACCEPTED;
	/* What is stored stays: until a checkpoint of the new stream commits, it is what there is. */
	now->generation = generation;
	memcpy(now->stream, stream, SHIP_STREAM_BYTES);
	now->offset = now->sequence = 0;
	frames_commit(&mirror->frames);
	return SHIP_ACCEPTED;
}

static _Atomic uint64_t *directory_entry(const struct mirror *mirror, uint32_t lane, uint64_t part)
{
	return &mirror->log.directory[(uint64_t)lane * mirror->log.segment_count + part % mirror->log.segment_count];
}

static uint64_t segment_offset(const struct mirror *mirror, uint32_t segment)
{
	return (uint64_t)(mirror->log.segments - (uint8_t *)mirror->log.header) + (uint64_t)segment * LOG_SEGMENT_BYTES;
}

/* Gives the lane the segment that it has at the primary. */
static bool settle(struct mirror *mirror, uint32_t lane, uint64_t part, uint32_t segment)
{
	_Atomic uint64_t *entry = directory_entry(mirror, lane, part);
	_Atomic uint64_t *word = &mirror->log.in_use[segment / 64];
	uint64_t was = atomic_load(entry), bit = 1ull << segment % 64;
	if (was == log_entry(part, segment))
		return true;
	if (was != 0 || (atomic_load(word) & bit) != 0)
		return false;
	atomic_fetch_or(word, bit);
	atomic_store(entry, log_entry(part, segment));
	return true;
}

static enum mirror_result apply_lane(struct mirror *mirror, const struct ship_entry *entry, const uint8_t *payload)
{
	uint64_t at = entry->position % LOG_SEGMENT_BYTES;
	if (entry->lane >= mirror->log.lane_count || entry->segment >= mirror->log.segment_count ||
	    entry->position % 8 != 0 || at + entry->length > LOG_SEGMENT_BYTES)
		return MIRROR_CORRUPT;
	struct log_lane *lane = &mirror->log.lanes[entry->lane];
	uint64_t head = atomic_load(&lane->head), end = entry->position + entry->length;
	if (end < entry->position || entry->position > head)
		return MIRROR_CORRUPT;
	if (end <= atomic_load(&lane->tail))
		return MIRROR_STORED; /* said again after a break, and trimmed since */
	int failed = room_take(&mirror->room, segment_offset(mirror, entry->segment) + at, entry->length);
	if (failed != 0)
		return MIRROR_FULL;
	if (!settle(mirror, entry->lane, entry->position / LOG_SEGMENT_BYTES, entry->segment))
		return MIRROR_CORRUPT;
	memcpy(mirror->log.segments + (uint64_t)entry->segment * LOG_SEGMENT_BYTES + at, payload, entry->length);
	if (end > head) {
		log_stored_add(&mirror->log, entry->lane, entry->position, payload, entry->length);
		atomic_store_explicit(&lane->head, end, memory_order_release);
	}
	mirror->lane_bytes += entry->length;
	return MIRROR_STORED;
}

static enum mirror_result trim_lane(struct mirror *mirror, const struct ship_entry *entry)
{
	if (entry->lane >= mirror->log.lane_count || entry->position % 8 != 0)
		return MIRROR_CORRUPT;
	struct log_lane *lane = &mirror->log.lanes[entry->lane];
	uint64_t head = atomic_load(&lane->head), tail = atomic_load(&lane->tail);
	if (entry->position <= head) {
		log_trim(&mirror->log, entry->lane, entry->position);
		return MIRROR_STORED;
	}
	/* A mirror that begins in the middle: the lane has never held anything here. */
	if (head != tail)
		return MIRROR_CORRUPT;
	log_stored_forget(&mirror->log, entry->lane);
	atomic_store(&lane->head, entry->position);
	atomic_store(&lane->tail, entry->position);
	return MIRROR_STORED;
}

static enum mirror_result apply_state(struct mirror *mirror, const struct ship_entry *entry)
{
	if (entry->lane >= mirror->log.lane_count || entry->position > UINT32_MAX)
		return MIRROR_CORRUPT;
	atomic_store(&mirror->log.lanes[entry->lane].kernel_tid, (uint32_t)entry->position);
	atomic_store(&mirror->log.lanes[entry->lane].state, entry->segment);
	return MIRROR_STORED;
}

static enum mirror_result apply_frame(struct mirror *mirror, const struct ship_entry *entry, const uint8_t *bytes)
{
	int failed = frames_append(&mirror->frames, bytes, ship_entry_size(entry->length));
	if (failed != 0)
		return failed == -EBADMSG ? MIRROR_CORRUPT : MIRROR_FULL;
	if (entry->kind == SHIP_CHECKPOINT)
		mirror->frames.now.checkpoint = entry->position;
	return MIRROR_STORED;
}

static enum mirror_result apply(struct mirror *mirror, const struct ship_entry *entry, const uint8_t *bytes,
				const uint8_t *payload)
{
	switch ((enum ship_kind)entry->kind) {
	case SHIP_HEADER:
		memcpy((uint8_t *)mirror->log.header + SHIP_LOG_HEADER_BYTES, payload, sizeof(struct ship_header));
		return MIRROR_STORED;
	case SHIP_LANE:
		return apply_lane(mirror, entry, payload);
	case SHIP_LANE_STATE:
		return apply_state(mirror, entry);
	case SHIP_INGRESS:
	case SHIP_EGRESS:
	case SHIP_CHECKPOINT:
	case SHIP_GAP:
		return apply_frame(mirror, entry, bytes);
	case SHIP_TRIM_LANE:
		return trim_lane(mirror, entry);
	case SHIP_TRIM_FRAMES:
		return frames_trim(&mirror->frames, entry->position) ? MIRROR_STORED : MIRROR_CORRUPT;
	case SHIP_KIND_MAX:
		break;
	}
	return MIRROR_CORRUPT;
}

enum mirror_result mirror_apply(struct mirror *mirror, const struct ship_entry *entry, const uint8_t *bytes,
				const uint8_t *payload)
{
	enum mirror_result result = apply(mirror, entry, bytes, payload);
	if (result != MIRROR_STORED)
		return result;
	mirror->frames.now.offset += ship_entry_size(entry->length);
	mirror->frames.now.sequence++;
	return MIRROR_STORED;
}

void mirror_commit(struct mirror *mirror)
{
	frames_commit(&mirror->frames);
}
