/*
 * Spoils an event log, for the tests of bad input.
 *
 *   recorder-spoil LOG record SEED     one bit of a record that a later CHECK guards
 *   recorder-spoil LOG header SEED     one bit of the header's fixed part, but not of its version
 *   recorder-spoil LOG output                     the last output of each lane is another, and all checksums are right
 *   recorder-spoil LOG end                        the last bit of each lane
 *   recorder-spoil LOG version|build|directory      another version (a whole header), another recorder's build, a lost segment
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "log/reader.h"
#include "log/stored.h"

/* A check's own time is guarded by nothing: it is only shown. (Its ordinal and position are compared.) */
static bool is_time_of_check(const struct log_file *log, uint64_t at)
{
	static struct log_cursor cursor;
	struct log_event event;
	log_cursor_open(&cursor, log, 0, atomic_load(&log->lanes[0].tail));
	while (log_cursor_next(&cursor, &event) == LOG_WALK_EVENT)
		if (event.record.kind == LOG_CHECK && at - event.position < 8 + sizeof event.check)
			return true;
	return false;
}

/*
 * The end of what checks guard in lane 0, from its tail; not the last one, which a program that ends may not come to.
 */
static uint64_t guarded(const struct log_file *log)
{
	static struct log_cursor cursor;
	struct log_event event;
	uint64_t last = 0, end = 0;
	log_cursor_open(&cursor, log, 0, atomic_load(&log->lanes[0].tail));
	while (log_cursor_next(&cursor, &event) == LOG_WALK_EVENT)
		if (event.record.kind == LOG_CHECK)
			end = last, last = event.position;
	return end;
}

static int spoil_record(const struct log_file *log, unsigned seed)
{
	uint64_t from = atomic_load(&log->lanes[0].tail), end = guarded(log);
	if (end <= from) {
		fprintf(stderr, "nothing is guarded\n");
		return 2;
	}
	uint64_t at = from + (uint64_t)seed * 2654435761u % (end - from);
	while (is_time_of_check(log, at))
		at -= at > from + 40 ? 40 : 0;
	uint8_t *byte = log_at(log, 0, at);
	if (byte == NULL)
		return 2;
	*byte ^= (uint8_t)(1u << seed % 8);
	printf("bit %u of byte %llu\n", seed % 8, (unsigned long long)at);
	return 0;
}

static int spoil_header(const struct log_file *log, unsigned seed)
{
	unsigned at = seed * 2654435761u % 60;
	at = at < 8 ? at : at + 4; /* the version has a test of its own */
	((uint8_t *)log->header)[at] ^= (uint8_t)(1u << seed % 8);
	return 0;
}

static void other_version(struct log_header *header)
{
	uint8_t fixed[64];
	header->version = LOG_VERSION - 1;
	header->crc = 0;
	memcpy(fixed, header, sizeof fixed);
	header->crc = ft_crc32c(0, fixed, sizeof fixed);
}

/* So that no checksum is wrong: those among the records, and those of what was stored. */
static void renew_checks(const struct log_file *log, uint32_t lane)
{
	struct log_event event;
	uint64_t position = atomic_load(&log->lanes[lane].tail), head = atomic_load(&log->lanes[lane].head);
	bool checked = position == 0;
	uint32_t crc = 0;
	while (position < head) {
		const char *why = NULL;
		uint8_t *at = log_at(log, lane, position);
		uint64_t left = LOG_SEGMENT_BYTES - position % LOG_SEGMENT_BYTES;
		uint32_t bytes = at == NULL ? 0 : log_decode(at, left, &event, &why);
		if (bytes == 0)
			return;
		if (event.record.kind == LOG_CHECK) {
			if (checked)
				memcpy(at + offsetof(struct log_record, object), &crc, sizeof crc);
			checked = true;
			crc = 0;
		} else {
			crc = ft_crc32c(crc, at, bytes);
		}
		position += event.record.kind == LOG_PAD ? left : bytes;
	}
	log_stored_forget(log, lane);
}

/* The position of a lane's last output; UINT64_MAX: there is none. */
static uint64_t last_output(const struct log_file *log, uint32_t lane)
{
	static struct log_cursor cursor;
	struct log_event event;
	uint64_t at = UINT64_MAX;
	log_cursor_open(&cursor, log, lane, atomic_load(&log->lanes[lane].tail));
	while (log_cursor_next(&cursor, &event) == LOG_WALK_EVENT)
		if (event.record.kind == LOG_OUTPUT)
			at = event.position;
	return at;
}

/* As if another program had been recorded: the bytes are whole, and what they say did not happen. */
static int spoil_outputs(const struct log_file *log)
{
	unsigned spoilt = 0;
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		uint64_t at = last_output(log, lane);
		if (at == UINT64_MAX)
			continue;
		log_at(log, lane, at)[8 + offsetof(struct log_output, crc)] ^= 1;
		renew_checks(log, lane);
		spoilt++;
	}
	printf("outputs of %u lanes\n", spoilt);
	return spoilt > 0 ? 0 : 2;
}

static int spoil_ends(const struct log_file *log)
{
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		uint64_t head = atomic_load(&log->lanes[lane].head);
		uint8_t *at = head > atomic_load(&log->lanes[lane].tail) ? log_at(log, lane, head - 1) : NULL;
		if (at != NULL)
			*at ^= 128;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct log_file log;
	if (argc < 3 || log_map(argv[1], true, &log) != 0)
		return 2;
	unsigned seed = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
	if (strcmp(argv[2], "record") == 0)
		return spoil_record(&log, seed);
	if (strcmp(argv[2], "output") == 0)
		return spoil_outputs(&log);
	if (strcmp(argv[2], "end") == 0)
		return spoil_ends(&log);
	if (strcmp(argv[2], "header") == 0)
		return spoil_header(&log, seed);
	if (strcmp(argv[2], "version") == 0)
		other_version(log.header);
	else if (strcmp(argv[2], "build") == 0)
		atomic_fetch_xor(&log.header->recorder_build[0], 1);
	else if (strcmp(argv[2], "directory") == 0)
		atomic_store(&log.directory[0], 0);
	else
		return 2;
	return 0;
}
