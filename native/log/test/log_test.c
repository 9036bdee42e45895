#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "log/reader.h"
#include "test/check.h"

static char path[] = "/tmp/log-test-XXXXXX";
static struct log_cursor cursor;

static int make(struct log_file *log, uint32_t segments)
{
	return log_create(path, 4, segments, LOG_MODE_RECORD) == 0 && log_map(path, true, log) == 0;
}

static uint64_t append(struct log_file *log, uint32_t lane, const void *record, uint64_t bytes)
{
	uint64_t head = atomic_load(&log->lanes[lane].head);
	uint64_t left = LOG_SEGMENT_BYTES - head % LOG_SEGMENT_BYTES;
	if (bytes > left) {
		struct log_record pad = {.kind = LOG_PAD, .words = 1, .object = (uint32_t)left};
		memcpy(log_at(log, lane, head), &pad, sizeof pad);
		head += left;
	}
	uint8_t *at = log_extend(log, lane, head);
	if (at == NULL)
		return 0;
	memcpy(at, record, bytes);
	atomic_store(&log->lanes[lane].head, head + bytes);
	return head;
}

static uint64_t append_call(struct log_file *log, uint32_t lane, uint32_t object, uint32_t payload_bytes)
{
	static uint64_t words[LOG_RECORD_BYTES_MAX / 8];
	struct log_record first = {.kind = LOG_READ, .words = (uint16_t)(2 + payload_bytes / 8), .object = object};
	memcpy(words, &first, 8);
	return append(log, lane, words, first.words * 8u);
}

static int walk(struct log_file *log, uint32_t lane, uint64_t from, uint64_t *events)
{
	struct log_event event;
	int state;
	*events = 0;
	log_cursor_open(&cursor, log, lane, from);
	while ((state = log_cursor_next(&cursor, &event)) == LOG_WALK_EVENT)
		(*events)++;
	return state;
}

TEST(makes_maps_and_refuses)
{
	struct log_file log;
	CHECK(make(&log, 8));
	CHECK_EQ(log.lane_count, 4);
	CHECK_EQ(log_free_bytes(&log), 8ull << 20);
	log.header->version++;
	CHECK_EQ(log_map(path, false, &log), -EPROTO);
	CHECK(make(&log, 8));
	log.header->segment_count++;
	CHECK_EQ(log_map(path, false, &log), -EBADMSG);
	CHECK_EQ(truncate(path, 100), 0);
	CHECK_EQ(log_map(path, false, &log), -EBADMSG);
	CHECK_EQ(log_create(path, 0, 8, LOG_MODE_RECORD), -EINVAL);
}

TEST(a_lane_goes_over_segments_and_is_trimmed)
{
	struct log_file log;
	uint64_t events, third = 0;
	CHECK(make(&log, 3));
	for (int i = 0; i < 20; i++)
		if (append_call(&log, 1, 7, 100000) != 0 && i == 12)
			third = atomic_load(&log.lanes[1].head);
	CHECK_EQ(walk(&log, 1, 0, &events), LOG_WALK_END);
	CHECK_EQ(events, 21); /* one PAD */
	CHECK_EQ(log_free_bytes(&log), 1ull << 20);
	/* Full: the fourth segment is not there until the first is given back, and then it is used again. */
	CHECK(log_extend(&log, 2, 0) != NULL);
	CHECK(log_extend(&log, 1, 2ull << 20) == NULL);
	log_trim(&log, 1, third);
	CHECK(log_at(&log, 1, 0) == NULL);
	CHECK_EQ(walk(&log, 1, third, &events), LOG_WALK_END);
	CHECK_EQ(events, 7);
	CHECK(log_extend(&log, 1, 2ull << 20) != NULL);
	CHECK(log_extend(&log, 1, 2ull << 20) == log_at(&log, 1, 2ull << 20));
	CHECK_EQ(walk(&log, 1, 0, &events), LOG_WALK_TORN); /* what was trimmed cannot be read as something else */
	CHECK_EQ(events, 0);
	log_unmap(&log);
}

TEST(a_torn_tail_is_discarded_whole)
{
	struct log_file log;
	uint64_t events;
	CHECK(make(&log, 3));
	append_call(&log, 0, 1, 64);
	uint64_t last = append_call(&log, 0, 2, 64);
	atomic_store(&log.lanes[0].head, last + 24);
	CHECK_EQ(walk(&log, 0, 0, &events), LOG_WALK_TORN);
	CHECK_EQ(events, 1);
	atomic_store(&log.lanes[0].head, 40ull << 20);
	CHECK_EQ(walk(&log, 0, last, &events), LOG_WALK_CORRUPT); /* zeros are no records */
	CHECK_EQ(events, 1);
	log_unmap(&log);
}

static void append_check(struct log_file *log, uint64_t ordinal, uint32_t crc)
{
	struct { struct log_record first; struct log_check check; } c = {
		.first = {.kind = LOG_CHECK, .words = 4, .object = crc}, .check = {.ordinal = ordinal}};
	c.check.position = atomic_load(&log->lanes[0].head);
	append(log, 0, &c, sizeof c);
}

TEST(checks_find_what_changed)
{
	struct log_file log;
	uint64_t events;
	CHECK(make(&log, 3));
	for (uint32_t i = 0; i < 10; i++)
		append_call(&log, 0, i, 8);
	append_check(&log, 10, ft_crc32c(0, log_at(&log, 0, 0), 240));
	CHECK_EQ(walk(&log, 0, 0, &events), LOG_WALK_END);
	CHECK_EQ(events, 11);
	log_at(&log, 0, 0)[20] ^= 1;
	CHECK_EQ(walk(&log, 0, 0, &events), LOG_WALK_CORRUPT);
	CHECK_EQ(walk(&log, 0, 24, &events), LOG_WALK_END); /* from a checkpoint on: only a whole stretch can be checked */
	log_at(&log, 0, 0)[20] ^= 1;
	append_check(&log, 12, 0);
	CHECK_EQ(walk(&log, 0, 0, &events), LOG_WALK_CORRUPT); /* one record is missing */
	log_unmap(&log);
}

/* Whatever the bytes: the walk ends, and never reads outside (the sanitizer looks). */
TEST(survives_hostile_bytes)
{
	struct log_file log;
	uint64_t seed = 0x5eed, events;
	CHECK(make(&log, 3));
	for (int round = 0; round < 400; round++) {
		memset(log.lanes, 0, sizeof *log.lanes * 4);
		for (int i = 0; i < 30; i++)
			append_call(&log, 0, 1, check_random(&seed) % 64 * 8);
		uint64_t head = atomic_load(&log.lanes[0].head);
		for (int i = 0; i < 8; i++)
			log_at(&log, 0, 0)[check_random(&seed) % (head + 8)] = (uint8_t)check_random(&seed);
		if (round % 4 == 1)
			atomic_store(&log.directory[check_random(&seed) % 12], check_random(&seed));
		if (round % 4 == 2)
			atomic_store(&log.lanes[0].head, check_random(&seed));
		if (round % 4 == 3)
			atomic_store(&log.lanes[0].tail, check_random(&seed));
		CHECK(walk(&log, 0, atomic_load(&log.lanes[0].tail), &events) <= 0);
		log_trim(&log, 0, atomic_load(&log.lanes[0].tail) + (check_random(&seed) % (4u << 20)));
		for (int i = 0; i < 12; i++)
			atomic_store(&log.directory[i], 0);
		atomic_store(&log.in_use[0], 0);
	}
	log_unmap(&log);
}

TEST(random_records_decode_or_do_not)
{
	uint64_t seed = 99, words[64];
	struct log_event event;
	int good = 0;
	for (int round = 0; round < 200000; round++) {
		for (int i = 0; i < 8; i++)
			words[i] = check_random(&seed);
		((struct log_record *)words)->words %= 10;
		const char *why = NULL;
		uint32_t bytes = log_decode((uint8_t *)words, 64, &event, &why);
		CHECK(bytes <= 64 && (bytes != 0 || why != NULL));
		good += bytes != 0;
	}
	CHECK(good > 100);
}

int main(void)
{
	int fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	RUN(makes_maps_and_refuses);
	RUN(a_lane_goes_over_segments_and_is_trimmed);
	RUN(a_torn_tail_is_discarded_whole);
	RUN(checks_find_what_changed);
	RUN(survives_hostile_bytes);
	RUN(random_records_decode_or_do_not);
	unlink(path);
	return check_report();
}
