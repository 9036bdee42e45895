/* Source to mirror without a network: what goes in comes out, whatever is cut off, said twice or taken back. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "log/stored.h"
#include "ship/mirror.h"
#include "ship/source.h"
#include "ship/test/writer.h"
#include "test/check.h"

#define LANES 5u
#define SEGMENTS 12u
#define RING_BYTES (1u << 20)

static char folder[] = "/dev/shm/ship-test-XXXXXX";
static char log_path[64], mirror_path[64], frames_path[64];
static struct log_file log_file;
static struct source source;
static struct mirror mirror;
static uint8_t wire[4 << 20];
static size_t wire_length;
static uint64_t random_state;

static uint64_t below(uint64_t limit)
{
	return check_random(&random_state) % limit;
}

static bool welcome(void)
{
	if (mirror_adopt_log(&mirror, (const uint8_t *)source.log.header) != SHIP_ACCEPTED ||
	    mirror_adopt_stream(&mirror, source.generation, source.stream) != SHIP_ACCEPTED)
		return false;
	source.frames_room = mirror.frames.ring_bytes;
	if (!source.frames_base_known)
		source.frames_base = frames_used(&mirror.frames);
	source.frames_base_known = true;
	wire_length = 0;
	return source_acked(&source, mirror.frames.now.offset) &&
	       ship_queue_resume(&source.queue, mirror.frames.now.offset, mirror.frames.now.sequence);
}

static bool open_all(uint64_t generation)
{
	return source_open(&source, log_path, generation, 1 << 20) == 0 &&
	       mirror_open(&mirror, mirror_path, frames_path, RING_BYTES) == 0 && welcome();
}

static bool begin(uint64_t seed)
{
	random_state = seed * 2654435761u + 1;
	unlink(log_path);
	unlink(mirror_path);
	unlink(frames_path);
	return log_create(log_path, LANES, SEGMENTS, LOG_MODE_RECORD) == 0 && log_map(log_path, true, &log_file) == 0 &&
	       open_all(1);
}

static void end(void)
{
	source_close(&source);
	mirror_close(&mirror);
	log_unmap(&log_file);
}

/* Sends at most `bytes`, applies what is whole. False: the mirror refused. */
static bool carry(size_t bytes)
{
	size_t room = sizeof wire - wire_length;
	wire_length += ship_queue_fill(&source.queue, wire + wire_length, bytes < room ? bytes : room);
	size_t at = 0;
	for (;;) {
		struct ship_entry entry;
		const uint8_t *payload;
		enum ship_decoded decoded =
			ship_entry_decode(wire + at, wire_length - at, mirror.frames.now.sequence, &entry, &payload);
		if (decoded == SHIP_PART)
			break;
		if (decoded != SHIP_WHOLE || mirror_apply(&mirror, &entry, wire + at, payload) != MIRROR_STORED)
			return false;
		at += ship_entry_size(entry.length);
	}
	wire_length -= at;
	memmove(wire, wire + at, wire_length);
	mirror_commit(&mirror);
	return true;
}

static bool carry_all(void)
{
	while (ship_queue_unsent(&source.queue))
		if (!carry(1 << 20))
			return false;
	return mirror.frames.now.offset == source.queue.end && source_acked(&source, mirror.frames.now.offset);
}

TEST(the_mirror_is_the_log)
{
	CHECK(begin(1));
	for (int i = 0; i < 3000; i++)
		writer_append(&log_file, (uint32_t)below(LANES), (uint32_t)below(300) * 8, 1);
	/* The largest record there is, and one that begins a segment. */
	CHECK(writer_append(&log_file, 2, LOG_RECORD_BYTES_MAX - 64, 1));
	CHECK(writer_append(&log_file, 2, LOG_RECORD_BYTES_MAX - 64, 1));
	CHECK(source_cut(&source));
	CHECK(!source_cut(&source));
	CHECK(carry_all());
	CHECK_STR(writer_compare_whole(&log_file, &mirror.log) == NULL ? "" : writer_compare_whole(&log_file, &mirror.log), "");
	atomic_store(&log_file.lanes[1].state, LOG_LANE_ENDED);
	atomic_store(&log_file.header->lost, LOG_LOSS_FORK);
	CHECK(source_cut(&source));
	CHECK(carry_all());
	CHECK_EQ(atomic_load(&mirror.log.lanes[1].state), LOG_LANE_ENDED);
	CHECK_EQ(atomic_load(&mirror.log.header->lost), LOG_LOSS_FORK);
	/* The counters of waiting alone are no news. */
	atomic_fetch_add(&log_file.header->waits, 1);
	CHECK(!source_cut(&source));
	end();
}

TEST(a_stamp_covers_what_came_before_and_the_ack_comes_after_the_store)
{
	uint8_t frame[64] = {0};
	CHECK(begin(2));
	CHECK(carry_all());
	CHECK(writer_append(&log_file, 0, 80, 1));
	uint64_t stamp = source_stamp(&source, frame, sizeof frame, 1);
	CHECK(stamp > source.queue.acked);
	CHECK(writer_append(&log_file, 0, 80, 1));
	CHECK(carry_all());
	CHECK(source.queue.acked >= stamp);
	CHECK_EQ(atomic_load(&mirror.log.lanes[0].head), 96);
	/* Not moved: the same stamp. Acks that cannot be right are refused. */
	uint64_t again = source_stamp(&source, frame, sizeof frame, 1);
	CHECK_EQ(source_stamp(&source, frame, sizeof frame, 1), again);
	CHECK(!source_acked(&source, again));
	CHECK(!source_acked(&source, again - 8));
	CHECK(carry_all());
	CHECK(!source_acked(&source, again - 8));
	CHECK(!source_acked(&source, UINT64_MAX));
	end();
}

TEST(frames_are_kept_until_the_checkpoint_after_theirs)
{
	uint8_t frame[1500], got[1600];
	struct ship_entry entry;
	CHECK(begin(3));
	for (unsigned epoch = 1; epoch < 4000; epoch++) {
		memset(frame, (int)epoch, sizeof frame);
		CHECK(source_has_room_for_frame(&source, sizeof frame));
		source_put_ingress(&source, frame, sizeof frame, epoch);
		CHECK(source_can_mark(&source));
		CHECK(source_mark(&source, epoch) == NULL);
		source_put_ingress(&source, frame, 777, epoch);
		CHECK(source_trim(&source, epoch, true) == NULL);
		CHECK(source_trim(&source, epoch, true) != NULL);
		CHECK(carry_all());
		CHECK_EQ(source_frames_used(&source), frames_used(&mirror.frames));
		/* Of the epoch before: its mark and what came after it. Then likewise of this one. */
		uint64_t at = mirror.frames.now.tail;
		const unsigned first = epoch > 1 ? epoch - 1 : 1;
		if (epoch == 1)
			at += 32 + ship_entry_size(sizeof frame); /* the stream's beginning */
		for (unsigned each = first; each <= epoch; each++) {
			CHECK_EQ(frames_read(&mirror.frames, at, &entry, got, sizeof got), 32);
			CHECK_EQ(entry.kind, SHIP_CHECKPOINT);
			CHECK_EQ(entry.position, each);
			CHECK_EQ(frames_read(&mirror.frames, at + 32, &entry, got, sizeof got), 32 + 784);
			CHECK(entry.kind == SHIP_INGRESS && entry.length == 777 && got[0] == (uint8_t)each);
			at += 32 + 816;
			if (each < epoch)
				at += ship_entry_size(sizeof frame);
		}
		CHECK_EQ(frames_read(&mirror.frames, at, &entry, got, sizeof got), 0);
	}
	end();
}

TEST(the_standbys_room_is_never_exceeded_and_a_trim_always_gets_through)
{
	static uint8_t frame[60000];
	CHECK(begin(4));
	unsigned frames = 0;
	CHECK(source_mark(&source, 1) == NULL);
	while (source_has_room_for_frame(&source, sizeof frame)) {
		source_put_ingress(&source, frame, sizeof frame, 1);
		CHECK(carry_all());
		CHECK(++frames < 100);
	}
	CHECK(frames > 10);
	CHECK(frames_used(&mirror.frames) <= RING_BYTES);
	CHECK(source_has_room(&source));
	CHECK(source_can_mark(&source));
	CHECK(source_mark(&source, 2) == NULL);
	CHECK(source_trim(&source, 2, false) == NULL);
	CHECK(source_has_room_for_frame(&source, sizeof frame));
	CHECK(carry_all());
	CHECK_EQ(frames_used(&mirror.frames), 32);
	end();
}

TEST(without_room_nothing_is_put_and_nothing_lost)
{
	CHECK(begin(5));
	CHECK(carry_all());
	/* The standby is away; stamps come and come. */
	uint8_t frame[64] = {0};
	uint64_t stamps = 0;
	while (source_has_room(&source)) {
		writer_append(&log_file, (uint32_t)(stamps % LANES), 8, stamps);
		CHECK(source_stamp(&source, frame, sizeof frame, 1) != UINT64_MAX);
		CHECK(++stamps < 1 << 20);
	}
	writer_append(&log_file, 0, 8, stamps);
	CHECK_EQ(source_stamp(&source, frame, sizeof frame, 1), UINT64_MAX);
	CHECK(source.broken == NULL);
	CHECK(carry_all());
	CHECK(source_has_room(&source));
	CHECK(source_cut(&source));
	CHECK(carry_all());
	CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
	end();
}

TEST(segments_are_used_again_only_after_the_mirror_has_let_go)
{
	CHECK(begin(6));
	uint64_t trimmed = 0;
	/* Ten times what the file holds. */
	for (unsigned i = 0; i < 4000; i++) {
		uint32_t lane = (uint32_t)below(LANES);
		if (!writer_append(&log_file, lane, 32768, i)) {
			CHECK(source_cut(&source) || true);
			for (uint32_t each = 0; each < LANES; each++)
				CHECK_EQ(source_trim_lane(&source, each, source.put[each]), 0);
			/* Not yet: the standby has not said so. */
			CHECK(!writer_append(&log_file, lane, 32768, i));
			CHECK(carry_all());
			CHECK(writer_append(&log_file, lane, 32768, i));
			trimmed++;
		}
		if (below(20) == 0)
			source_cut(&source);
		if (below(50) == 0)
			CHECK(carry(below(2 << 20)));
	}
	CHECK(trimmed >= 5);
	source_cut(&source);
	CHECK(carry_all());
	CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
	end();
}

static const char *stored_wrong(const struct log_file *log)
{
	const char *wrong = NULL;
	for (uint32_t lane = 0; lane < LANES && wrong == NULL; lane++)
		wrong = log_stored_check(log, lane);
	return wrong;
}

/* Which the records' own checks do not guard: this writer makes none. Over a segment's end, and with a tail in the one before. */
TEST(no_changed_bit_of_a_lanes_end_goes_unseen)
{
	CHECK(begin(11));
	for (uint64_t i = 0; i < 3000; i++) {
		CHECK(writer_append(&log_file, 0, (uint32_t)below(200) * 8, 1));
		if (i % 50 != 0)
			continue;
		source_cut(&source);
		CHECK(carry_all());
		CHECK(stored_wrong(&mirror.log) == NULL);
		uint64_t head = atomic_load(&mirror.log.lanes[0].head), reach = head < 4096 ? head : 4096;
		uint64_t at = head - 1 - below(reach);
		uint8_t bit = (uint8_t)(1u << below(8));
		*log_at(&mirror.log, 0, at) ^= bit;
		CHECK(stored_wrong(&mirror.log) != NULL);
		*log_at(&mirror.log, 0, at) ^= bit;
		/* Nor that of the head itself. */
		atomic_store(&mirror.log.lanes[0].head, head - 8);
		CHECK(stored_wrong(&mirror.log) != NULL);
		atomic_store(&mirror.log.lanes[0].head, head);
		if (i % 500 == 0)
			log_trim(&mirror.log, 0, head - reach);
		CHECK(stored_wrong(&mirror.log) == NULL);
	}
	CHECK(atomic_load(&mirror.log.lanes[0].head) > 2 * LOG_SEGMENT_BYTES);
	/* Whatever the account says: an answer, and nothing outside is read (the sanitizer looks). */
	struct log_lane good;
	memcpy(&good, &mirror.log.lanes[0], sizeof good);
	for (int round = 0; round < 20000; round++) {
		uint8_t *bytes = (uint8_t *)&mirror.log.lanes[0];
		for (uint64_t i = 0; i < 1 + below(3); i++)
			bytes[below(sizeof good)] = (uint8_t)check_random(&random_state);
		(void)stored_wrong(&mirror.log);
		memcpy(bytes, &good, sizeof good);
	}
	/* A recorder that goes on here is not bound by it. */
	log_stored_forget(&mirror.log, 0);
	atomic_store(&mirror.log.lanes[0].head, atomic_load(&mirror.log.lanes[0].head) + 8);
	CHECK(stored_wrong(&mirror.log) == NULL);
	end();
}

/* One random history: the connection breaks, and either gate dies, at any moment. */
static const char *random_history(uint64_t seed)
{
	if (!begin(seed))
		return "begin";
	uint64_t generation = 1, epoch = 0;
	static uint8_t frame[9000];
	for (int step = 0; step < 300; step++) {
		uint64_t what = below(100);
		if (what < 50) {
			writer_append(&log_file, (uint32_t)below(LANES), (uint32_t)below(what < 5 ? 32768 : 64) * 8, seed);
		} else if (what < 60) {
			uint32_t length = (uint32_t)below(sizeof frame) + 1;
			if (source_has_room_for_frame(&source, length))
				source_put_ingress(&source, frame, length, 1);
		} else if (what < 75) {
			source_cut(&source);
		} else if (what < 90) {
			if (!carry(below(1 << below(21))))
				return "refused";
			if (below(2) == 0 && !source_acked(&source, mirror.frames.now.offset))
				return "a true ack was refused";
		} else if (what < 93) {
			if (source_can_mark(&source) && source_mark(&source, ++epoch) == NULL && below(2) == 0)
				(void)source_trim(&source, epoch, true);
		} else if (what < 95) {
			for (uint32_t lane = 0; lane < LANES; lane++)
				(void)source_trim_lane(&source, lane, source.put[lane] / 2 / 8 * 8);
		} else if (what < 97) {
			if (!welcome()) /* the connection broke */
				return "not resumed";
		} else if (what < 99) {
			mirror_close(&mirror); /* the standby's gate was killed, perhaps between storing and the truth */
			if (mirror_open(&mirror, mirror_path, frames_path, RING_BYTES) != 0 || !welcome())
				return "the mirror did not come back";
		} else {
			source_close(&source); /* the primary's gate was killed */
			if (source_open(&source, log_path, generation, 1 << 20) != 0 || !welcome())
				return "no new stream";
		}
		if (mirror.has_log && writer_compare(&log_file, &mirror.log) != NULL)
			return writer_compare(&log_file, &mirror.log);
		if (mirror.has_log && stored_wrong(&mirror.log) != NULL)
			return stored_wrong(&mirror.log);
	}
	if (source.broken != NULL)
		return source.broken;
	for (int i = 0; i < 3; i++) {
		source_cut(&source);
		if (!carry_all())
			return "not carried";
	}
	if (frames_used(&mirror.frames) > source_frames_used(&source))
		return "more frames at the standby than the primary thinks";
	return writer_compare_whole(&log_file, &mirror.log);
}

TEST(whatever_breaks_the_mirror_is_the_log)
{
	for (uint64_t seed = 100; seed < 250; seed++) {
		const char *wrong = random_history(seed);
		end();
		if (wrong != NULL)
			printf("  seed %llu: %s\n", (unsigned long long)seed, wrong);
		CHECK(wrong == NULL);
	}
}

TEST(the_mirror_takes_a_position_twice_but_no_entry_of_nonsense)
{
	CHECK(begin(7));
	CHECK(writer_append(&log_file, 1, 4096, 1));
	source_cut(&source);
	CHECK(carry_all());
	struct log_lane before = mirror.log.lanes[1];
	uint8_t payload[64] = {0};
	static const struct ship_entry bad[] = {
		{.kind = SHIP_LANE, .lane = LANES, .length = 8},
		{.kind = SHIP_LANE, .lane = 65535, .length = 8},
		{.kind = SHIP_LANE, .lane = 0, .segment = SEGMENTS, .length = 8},
		{.kind = SHIP_LANE, .lane = 0, .segment = UINT32_MAX, .length = 8},
		{.kind = SHIP_LANE, .lane = 0, .position = 4, .length = 8},
		{.kind = SHIP_LANE, .lane = 0, .position = LOG_SEGMENT_BYTES - 8, .length = 16},
		{.kind = SHIP_LANE, .lane = 0, .position = UINT64_MAX - 7, .length = 8},
		{.kind = SHIP_LANE, .lane = 0, .position = 1 << 30, .length = 8}, /* a gap */
		{.kind = SHIP_LANE, .lane = 0, .position = 0, .segment = 0, .length = 8}, /* lane 1's */
		{.kind = SHIP_LANE, .lane = 1, .position = 0, .segment = 1, .length = 8}, /* elsewhere */
		{.kind = SHIP_LANE_STATE, .lane = LANES},
		{.kind = SHIP_LANE_STATE, .lane = 0, .position = 1ull << 32},
		{.kind = SHIP_TRIM_LANE, .lane = LANES},
		{.kind = SHIP_TRIM_LANE, .lane = 1, .position = 1ull << 60},
		{.kind = SHIP_TRIM_LANE, .lane = 1, .position = 7},
		{.kind = SHIP_KIND_MAX},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (mirror_apply(&mirror, &bad[i], payload, payload) != MIRROR_CORRUPT)
			printf("  entry %zu was taken\n", i);
		CHECK_EQ(mirror_apply(&mirror, &bad[i], payload, payload), MIRROR_CORRUPT);
	}
	CHECK(memcmp(&before, &mirror.log.lanes[1], sizeof before) == 0);
	CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
	end();
}

TEST(a_log_that_lies_is_not_believed)
{
	CHECK(begin(8));
	CHECK(carry_all());
	atomic_store(&log_file.lanes[0].head, 1ull << 50);
	source_cut(&source);
	CHECK_STR(source.broken, "impossible-head");
	CHECK(!source_has_room(&source));
	end();
	CHECK(begin(9));
	atomic_store(&log_file.lanes[0].head, 4096);
	source_cut(&source);
	CHECK_STR(source.broken, "missing-segment");
	end();
	CHECK(begin(10));
	CHECK(writer_append(&log_file, 0, 4096, 1));
	source_cut(&source);
	atomic_store(&log_file.lanes[0].head, 8);
	source_cut(&source);
	CHECK_STR(source.broken, "impossible-head");
	end();
}

TEST(another_log_and_older_generations_are_refused)
{
	CHECK(begin(11));
	CHECK(writer_append(&log_file, 0, 4096, 1));
	source_cut(&source);
	CHECK(carry_all());
	uint8_t header[64], stream[16] = {1};
	memcpy(header, log_file.header, sizeof header);
	header[40] ^= 1;
	CHECK_EQ(mirror_adopt_log(&mirror, header), SHIP_REFUSED_LOG);
	CHECK_EQ(mirror_adopt_stream(&mirror, 0, stream), SHIP_REFUSED_GENERATION);
	CHECK_EQ(mirror_adopt_stream(&mirror, 5, stream), SHIP_ACCEPTED);
	CHECK_EQ(mirror_adopt_stream(&mirror, 1, source.stream), SHIP_REFUSED_GENERATION);
	/* What was stored is still there. */
	CHECK_EQ(atomic_load(&mirror.log.lanes[0].head), 4112);
	end();
	/* A size that no log has. */
	CHECK(begin(12));
	mirror_close(&mirror);
	unlink(mirror_path);
	unlink(frames_path);
	CHECK_EQ(mirror_open(&mirror, mirror_path, frames_path, RING_BYTES), 0);
	memcpy(header, log_file.header, sizeof header);
	header[24] ^= 1;
	CHECK_EQ(mirror_adopt_log(&mirror, header), SHIP_REFUSED_LOG);
	memcpy(header, log_file.header, sizeof header);
	header[8]--;
	CHECK_EQ(mirror_adopt_log(&mirror, header), SHIP_REFUSED_LOG_VERSION);
	memset(header, 0xff, sizeof header);
	CHECK_EQ(mirror_adopt_log(&mirror, header), SHIP_REFUSED_LOG_VERSION);
	CHECK(access(mirror_path, F_OK) != 0);
	end();
}

TEST(a_log_that_was_written_here_is_no_mirror)
{
	CHECK(begin(14));
	CHECK(writer_append(&log_file, 0, 4096, 1));
	source_cut(&source);
	CHECK(carry_all());
	/* Taken over: nothing more, not even after a restart. */
	mirror_spend(&mirror);
	CHECK(!welcome());
	mirror_close(&mirror);
	CHECK_EQ(mirror_open(&mirror, mirror_path, frames_path, RING_BYTES), 0);
	CHECK(!welcome());
	/* The log of a primary that comes back: the same one, and yet not what the new primary has. */
	mirror_close(&mirror);
	unlink(frames_path);
	CHECK_EQ(mirror_open(&mirror, mirror_path, frames_path, RING_BYTES), 0);
	CHECK(!welcome());
	CHECK_EQ(atomic_load(&log_file.lanes[0].head), 4112);
	/* Anew, from nothing. */
	mirror_close(&mirror);
	unlink(frames_path);
	unlink(mirror_path);
	CHECK_EQ(mirror_open(&mirror, mirror_path, frames_path, RING_BYTES), 0);
	source_close(&source);
	CHECK_EQ(source_open(&source, log_path, 2, 1 << 20), 0);
	CHECK(welcome());
	source_cut(&source);
	CHECK(carry_all());
	CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
	end();
}

TEST(a_damaged_frames_file_is_refused)
{
	CHECK(begin(13));
	end();
	FILE *file = fopen(frames_path, "r+");
	CHECK(file != NULL && fseek(file, 16, SEEK_SET) == 0 && fputc(9, file) == 9 && fclose(file) == 0);
	CHECK_EQ(mirror_open(&mirror, mirror_path, frames_path, RING_BYTES), -EBADMSG);
	file = fopen(frames_path, "r+");
	CHECK(file != NULL && fseek(file, 8, SEEK_SET) == 0 && fputc(9, file) == 9 && fclose(file) == 0);
	CHECK_EQ(mirror_open(&mirror, mirror_path, frames_path, RING_BYTES), -EPROTO);
}

int main(void)
{
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(log_path, sizeof log_path, "%s/log", folder);
	snprintf(mirror_path, sizeof mirror_path, "%s/mirror", folder);
	snprintf(frames_path, sizeof frames_path, "%s/frames", folder);
	RUN(the_mirror_is_the_log);
	RUN(a_stamp_covers_what_came_before_and_the_ack_comes_after_the_store);
	RUN(frames_are_kept_until_the_checkpoint_after_theirs);
	RUN(the_standbys_room_is_never_exceeded_and_a_trim_always_gets_through);
	RUN(without_room_nothing_is_put_and_nothing_lost);
	RUN(segments_are_used_again_only_after_the_mirror_has_let_go);
	RUN(no_changed_bit_of_a_lanes_end_goes_unseen);
	RUN(whatever_breaks_the_mirror_is_the_log);
	RUN(the_mirror_takes_a_position_twice_but_no_entry_of_nonsense);
	RUN(a_log_that_lies_is_not_believed);
	RUN(another_log_and_older_generations_are_refused);
	RUN(a_log_that_was_written_here_is_no_mirror);
	RUN(a_damaged_frames_file_is_refused);
	unlink(log_path);
	unlink(mirror_path);
	unlink(frames_path);
	rmdir(folder);
	return check_report();
}
