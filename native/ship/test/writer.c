#include "ship/test/writer.h"

#include <string.h>

static uint64_t mixed(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static bool pad_to_end(const struct log_file *log, uint32_t lane, uint64_t *head, uint64_t left)
{
	if (left == LOG_SEGMENT_BYTES)
		return true;
	struct log_record pad = {.kind = LOG_PAD, .words = 1, .object = (uint32_t)left};
	uint8_t *at = log_extend(log, lane, *head);
	if (at == NULL)
		return false;
	memcpy(at, &pad, sizeof pad);
	*head += left;
	atomic_store_explicit(&log->lanes[lane].head, *head, memory_order_release);
	return true;
}

bool writer_append(const struct log_file *log, uint32_t lane, uint32_t payload_bytes, uint64_t seed)
{
	uint64_t head = atomic_load(&log->lanes[lane].head);
	uint32_t words = 2 + payload_bytes / 8;
	uint64_t left = LOG_SEGMENT_BYTES - head % LOG_SEGMENT_BYTES;
	if (words * 8u > left && !pad_to_end(log, lane, &head, left))
		return false;
	uint8_t *at = log_extend(log, lane, head);
	if (at == NULL)
		return false;
	struct log_record first = {.kind = LOG_READ, .words = (uint16_t)words, .object = lane};
	memcpy(at, &first, sizeof first);
	for (uint32_t word = 1; word < words; word++) {
		uint64_t value = mixed(seed ^ mixed(head + word) ^ (uint64_t)lane << 48);
		memcpy(at + 8 * word, &value, 8);
	}
	atomic_store(&log->lanes[lane].state, LOG_LANE_ACTIVE);
	atomic_store_explicit(&log->lanes[lane].head, head + words * 8u, memory_order_release);
	return true;
}

static const char *compare_lane(const struct log_file *log, const struct log_file *mirror, uint32_t lane)
{
	uint64_t at = atomic_load(&log->lanes[lane].tail), end = atomic_load(&mirror->lanes[lane].head);
	uint64_t tail = atomic_load(&mirror->lanes[lane].tail);
	if (end > atomic_load(&log->lanes[lane].head))
		return "the mirror is ahead of the log";
	/* The mirror trims first. */
	if (tail > at)
		at = tail;
	while (at < end) {
		uint64_t left = LOG_SEGMENT_BYTES - at % LOG_SEGMENT_BYTES;
		uint64_t length = end - at < left ? end - at : left;
		const uint8_t *a = log_at(log, lane, at), *b = log_at(mirror, lane, at);
		if (a == NULL || b == NULL)
			return "a segment is missing";
		if (a - log->segments != b - mirror->segments)
			return "a segment is in another place";
		if (memcmp(a, b, length) != 0)
			return "bytes differ";
		at += length;
	}
	return NULL;
}

const char *writer_compare(const struct log_file *log, const struct log_file *mirror)
{
	if (mirror->header == NULL)
		return "there is no mirror";
	if (memcmp(log->header, mirror->header, 64) != 0)
		return "the headers differ";
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		const char *wrong = compare_lane(log, mirror, lane);
		if (wrong != NULL)
			return wrong;
	}
	return NULL;
}

const char *writer_compare_whole(const struct log_file *log, const struct log_file *mirror)
{
	if (mirror->header == NULL)
		return "there is no mirror";
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		if (atomic_load(&log->lanes[lane].head) != atomic_load(&mirror->lanes[lane].head))
			return "a head differs";
		if (atomic_load(&log->lanes[lane].state) != atomic_load(&mirror->lanes[lane].state))
			return "a lane's state differs";
	}
	if (atomic_load(&log->header->mode) != atomic_load(&mirror->header->mode))
		return "the mode differs";
	return writer_compare(log, mirror);
}
