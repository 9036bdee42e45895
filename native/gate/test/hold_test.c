#include <stdlib.h>

#include "gate/hold.h"
#include "test/check.h"

#define ARENA (1u << 20)

/* A frame whose bytes tell its number, so that any mix-up shows. */
static void fill(unsigned char *bytes, size_t length, uint64_t number)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)(number * 131 + i * 7 + (i >> 8));
}

static int is_intact(const struct hold_frame *frame, size_t length, uint64_t number)
{
	if (frame->length != length)
		return 0;
	for (size_t i = 0; i < length; i++)
		if (frame->bytes[i] != (unsigned char)(number * 131 + i * 7 + (i >> 8)))
			return 0;
	return 1;
}

static int put(struct hold *hold, size_t length, uint64_t stamp, uint64_t number)
{
	unsigned char *room = hold_reserve(hold, FRAME_BYTES_MAX);
	if (room == NULL)
		return -1;
	fill(room, length, number);
	hold_commit(hold, length, stamp, number);
	return 0;
}

TEST(first_in_first_out)
{
	struct hold hold;
	CHECK_EQ(hold_open(&hold, ARENA), 0);
	CHECK(hold_oldest(&hold) == NULL);
	CHECK_EQ(put(&hold, 60, 1, 1), 0);
	CHECK_EQ(put(&hold, 65536, 1, 2), 0);
	CHECK_EQ(put(&hold, 1, 2, 3), 0);
	CHECK_EQ(hold.frames, 3);
	CHECK_EQ(hold.bytes, 65597);
	CHECK_EQ(hold.stamp_max, 2);
	CHECK(is_intact(hold_oldest(&hold), 60, 1));
	hold_pop(&hold);
	CHECK(is_intact(hold_oldest(&hold), 65536, 2));
	CHECK_EQ(hold_oldest(&hold)->stamp, 1);
	hold_pop(&hold);
	CHECK(is_intact(hold_oldest(&hold), 1, 3));
	hold_pop(&hold);
	CHECK(hold_oldest(&hold) == NULL);
	CHECK_EQ(hold.stamp_max, 0);
	hold_close(&hold);
}

TEST(at_the_bound_nothing_is_taken_and_nothing_lost)
{
	struct hold hold;
	uint64_t put_count = 0;
	CHECK_EQ(hold_open(&hold, ARENA), 0);
	while (put(&hold, 1000, 1, put_count) == 0)
		put_count++;
	CHECK(put_count > (ARENA - FRAME_BYTES_MAX) / 1040);
	CHECK_EQ(hold.frames, put_count);
	CHECK(hold_used(&hold) <= hold.size);
	CHECK(hold_reserve(&hold, FRAME_BYTES_MAX) == NULL);
	/* A small one still fits: the bound is about room, not about a count. */
	CHECK(hold_reserve(&hold, 100) != NULL);
	for (uint64_t i = 0; i < put_count; i++) {
		CHECK(is_intact(hold_oldest(&hold), 1000, i));
		hold_pop(&hold);
	}
	CHECK_EQ(hold_used(&hold), 0);
	hold_close(&hold);
}

TEST(a_reservation_that_is_not_used_leaves_no_trace)
{
	struct hold hold;
	CHECK_EQ(hold_open(&hold, ARENA), 0);
	CHECK_EQ(put(&hold, 100, 1, 1), 0);
	memset(hold_reserve(&hold, FRAME_BYTES_MAX), 0xee, FRAME_BYTES_MAX);
	CHECK_EQ(put(&hold, 100, 1, 2), 0);
	CHECK_EQ(hold.frames, 2);
	CHECK(is_intact(hold_oldest(&hold), 100, 1));
	hold_pop(&hold);
	CHECK(is_intact(hold_oldest(&hold), 100, 2));
	CHECK_EQ(hold_clear(&hold), 1);
	CHECK(hold_oldest(&hold) == NULL);
	hold_close(&hold);
}

TEST(what_is_unsettled_gets_its_stamp_with_the_others)
{
	struct hold hold;
	uint64_t number = 0, first = 0;
	CHECK_EQ(hold_open(&hold, 3 * FRAME_BYTES_MAX), 0);
	hold_settle(&hold, 1); /* nothing to settle: no stamp either */
	CHECK_EQ(hold.stamp_max, 0);
	/* Batches of one to nine, some of which begin before the arena's turn and end after it; the older ones keep theirs. */
	for (uint64_t batch = 1; batch <= 400; batch++) {
		uint64_t before = number;
		while (number - before < 1 + batch % 9 && put(&hold, 1 + number * 37 % 9000, HOLD_UNSETTLED, number) == 0)
			number++;
		CHECK_EQ(hold.unsettled, number - before);
		hold_settle(&hold, batch * 10);
		CHECK_EQ(hold.unsettled, 0);
		for (uint64_t keep = batch % 5; number - first > keep; first++) {
			CHECK(is_intact(hold_oldest(&hold), 1 + first * 37 % 9000, first));
			CHECK_EQ(hold_oldest(&hold)->stamp, (first < before ? batch - 1 : batch) * 10);
			hold_pop(&hold);
		}
		/* One batch is kept at most, so that its stamp is known. */
		for (; first < before; first++)
			hold_pop(&hold);
	}
	/* Another meaning of all stamps: what was read in this very step as well. */
	CHECK_EQ(put(&hold, 10, HOLD_UNSETTLED, number), 0);
	hold_restamp(&hold, 7);
	CHECK_EQ(hold.unsettled, 0);
	CHECK_EQ(hold_oldest(&hold)->stamp, 7);
	CHECK_EQ(put(&hold, 10, HOLD_UNSETTLED, number), 0);
	hold_clear(&hold);
	CHECK_EQ(put(&hold, 10, 1, number), 0);
	CHECK_EQ(hold_oldest(&hold)->stamp, 1);
	hold_close(&hold);
}

/* Against a model: random sizes, random fills and drains, many turns of the arena. */
TEST(random_against_a_model)
{
	enum { MODEL = 8192 };
	static struct { size_t length; uint64_t stamp, number; } model[MODEL];
	uint64_t state = 0x5eed2, number = 0, first = 0, stamp = 1, bytes = 0, turns = 0;
	struct hold hold;
	size_t tail_before = 0;
	CHECK_EQ(hold_open(&hold, 5 * FRAME_BYTES_MAX), 0);
	for (int step = 0; step < 60000; step++) {
		int filling = (step / 300) % 2 == 0;
		if (check_random(&state) % 3 != (filling ? 0u : 1u) && (filling || check_random(&state) % 3 == 0)) {
			size_t length = check_random(&state) % 8 == 0 ? 1 + check_random(&state) % FRAME_BYTES_MAX
								      : 1 + check_random(&state) % 1600;
			if (check_random(&state) % 50 == 0)
				stamp++;
			if (number - first < MODEL && put(&hold, length, stamp, number) == 0) {
				model[number % MODEL].length = length;
				model[number % MODEL].stamp = stamp;
				number++;
				bytes += length;
				if (hold.tail < tail_before)
					turns++;
				tail_before = hold.tail;
			}
		} else if (number > first) {
			const struct hold_frame *frame = hold_oldest(&hold);
			CHECK(frame != NULL);
			CHECK(is_intact(frame, model[first % MODEL].length, first));
			CHECK_EQ(frame->stamp, model[first % MODEL].stamp);
			bytes -= frame->length;
			first++;
			hold_pop(&hold);
			tail_before = hold.tail;
		}
		CHECK_EQ(hold.frames, number - first);
		CHECK_EQ(hold.bytes, bytes);
		CHECK(hold_used(&hold) <= hold.size && hold_used(&hold) >= hold.bytes);
	}
	CHECK(turns > 20);
	hold_close(&hold);
}

int main(void)
{
	RUN(first_in_first_out);
	RUN(at_the_bound_nothing_is_taken_and_nothing_lost);
	RUN(a_reservation_that_is_not_used_leaves_no_trace);
	RUN(what_is_unsettled_gets_its_stamp_with_the_others);
	RUN(random_against_a_model);
	return check_report();
}
