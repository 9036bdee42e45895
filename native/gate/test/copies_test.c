#include <stdlib.h>

#include "gate/copies.h"
#include "test/check.h"

enum { SENDER = 71, RECEIVER = 72, ARENA = 1 << 16 };

static const unsigned char key[SIPHASH_KEY_BYTES] = "fifteen letters";
static struct copies_packer packer;
static struct copies_keeper keeper;
static unsigned char wire[COPIES_DATAGRAM_BYTES_MAX];

static void anew(void)
{
	seal_end(&packer.seal);
	seal_end(&keeper.seal);
	hold_close(&keeper.kept);
	memset(&packer, 0, sizeof packer);
	memset(&keeper, 0, sizeof keeper);
	if (hold_open(&keeper.kept, ARENA) != 0)
		abort();
}

/* A frame of `length` bytes that are all `letter`. */
static bool add(uint64_t stamp, char letter, size_t length)
{
	static unsigned char frame[COPIES_FRAME_BYTES_MAX + 1];
	memset(frame, letter, length);
	return copies_add(&packer, stamp, frame, length);
}

static size_t close_to(uint64_t to, uint64_t generation, uint64_t committed)
{
	struct copies_head head = {.from = SENDER, .to = to, .generation = generation, .committed = committed};
	size_t length = copies_close(&packer, key, "pair", head);
	memcpy(wire, packer.bytes, length);
	return length;
}

static bool take(size_t length)
{
	return copies_take(&keeper, key, "pair", wire, length, SENDER, RECEIVER, 1);
}

static bool send_one(uint64_t stamp, char letter, uint64_t generation, uint64_t committed)
{
	return add(stamp, letter, 100) && take(close_to(RECEIVER, generation, committed));
}

/* The first letters of what is kept, oldest first; it is gone then. */
static const char *kept(void)
{
	static char letters[64];
	size_t count = 0;
	for (const struct hold_frame *frame; (frame = hold_oldest(&keeper.kept)) != NULL && count < sizeof letters - 1;) {
		letters[count++] = (char)frame->bytes[0];
		hold_pop(&keeper.kept);
	}
	letters[count] = 0;
	return letters;
}

TEST(frames_come_as_they_were_and_in_order)
{
	anew();
	CHECK(add(5, 'a', 11) && add(5, 'b', 1514) && add(5, 'c', 60));
	size_t length = close_to(RECEIVER, 1, 3);
	CHECK_EQ(length, COPIES_HEADER_BYTES + 3 * 4 + 11 + 1514 + 60 + SEAL_TAG_BYTES);
	CHECK(memmem(wire, length, "bbbbbbbb", 8) == NULL);
	CHECK(take(length));
	CHECK_EQ(keeper.kept.frames, 3);
	CHECK_EQ(keeper.kept.bytes, 11 + 1514 + 60);
	CHECK_EQ(hold_oldest(&keeper.kept)->stamp, 5);
	CHECK_STR(kept(), "abc");
	CHECK_EQ(close_to(RECEIVER, 1, 3), 0); /* nothing is in it any more */
}

TEST(what_a_checkpoint_contains_is_forgotten)
{
	anew();
	CHECK(send_one(5, 'a', 1, 3) && send_one(6, 'b', 1, 4) && send_one(7, 'c', 1, 5));
	CHECK_EQ(keeper.kept.frames, 2);
	copies_covered(&keeper, 6);
	CHECK_STR(kept(), "c");
}

TEST(another_life_of_the_service_begins_anew)
{
	anew();
	CHECK(send_one(50, 'a', 1, 3) && send_one(6, 'b', 2, 4));
	CHECK(!send_one(60, 'c', 1, 4)); /* of the one before */
	CHECK_STR(kept(), "b");
	/* A gate that counts from below again has lost what was between. */
	CHECK(send_one(9, 'd', 2, 4) && send_one(8, 'e', 2, 4));
	CHECK_STR(kept(), "e");
}

/* None is of an epoch that is no number: it would be kept as one whose turn is not settled. */
TEST(a_stamp_that_is_no_epoch_is_refused)
{
	anew();
	CHECK(!send_one(HOLD_UNSETTLED, 'a', 1, 3));
	CHECK(!send_one(0, 'b', 1, 3));
	CHECK(send_one(5, 'c', 1, 3));
	CHECK_STR(kept(), "c");
}

TEST(one_stamp_a_datagram_and_none_too_long)
{
	anew();
	CHECK(!add(5, 'a', COPIES_FRAME_BYTES_MAX + 1));
	CHECK_EQ(close_to(RECEIVER, 1, 1), 0);
	CHECK(add(5, 'a', COPIES_FRAME_BYTES_MAX));
	CHECK(!add(5, 'b', 100)); /* beyond what a datagram should have */
	CHECK(take(close_to(RECEIVER, 1, 1)));
	CHECK(add(5, 'c', 100));
	CHECK(!add(6, 'd', 100));
	CHECK(take(close_to(RECEIVER, 1, 1)));
	CHECK_STR(kept(), "ac");
}

TEST(without_room_the_newest_are_left_out)
{
	anew();
	for (int i = 0; i < 4 * ARENA / 1000; i++)
		CHECK(add(5, 'a', 1000) && take(close_to(RECEIVER, 1, 1)));
	CHECK(keeper.omitted > 0 && keeper.kept.frames > 50 && hold_used(&keeper.kept) <= ARENA);
	CHECK(send_one(6, 'b', 1, 5)); /* the epoch was committed: there is room */
	CHECK_STR(kept(), "b");
}

TEST(every_flipped_bit_and_every_other_length_is_refused)
{
	anew();
	CHECK(add(5, 'a', 40));
	size_t length = close_to(RECEIVER, 1, 1);
	unsigned char whole[sizeof wire];
	memcpy(whole, wire, length);
	for (size_t bit = 0; bit < length * 8; bit++) {
		memcpy(wire, whole, length);
		wire[bit / 8] ^= (unsigned char)(1 << bit % 8);
		CHECK(!take(length));
	}
	for (size_t cut = 0; cut < length; cut++) {
		memcpy(wire, whole, length);
		CHECK(!take(cut));
	}
	memcpy(wire, whole, length);
	CHECK(take(length));
	CHECK_STR(kept(), "a");
}

TEST(recordings_and_other_ends_are_refused)
{
	unsigned char whole[sizeof wire], other[SIPHASH_KEY_BYTES] = "another";
	anew();
	CHECK(add(5, 'a', 40));
	size_t length = close_to(RECEIVER, 1, 1);
	memcpy(whole, wire, length);
	CHECK(!copies_take(&keeper, other, "pair", wire, length, SENDER, RECEIVER, 1));
	seal_end(&keeper.seal); /* a gate has one key and one pair all its life */
	memcpy(wire, whole, length);
	CHECK(!copies_take(&keeper, key, "riap", wire, length, SENDER, RECEIVER, 1));
	seal_end(&keeper.seal);
	memcpy(wire, whole, length);
	CHECK(!copies_take(&keeper, key, "pair", wire, length, SENDER, RECEIVER + 1, 1));
	memcpy(wire, whole, length);
	CHECK(!copies_take(&keeper, key, "pair", wire, length, SENDER + 1, RECEIVER, 1));
	memcpy(wire, whole, length);
	CHECK(take(length));
	memcpy(wire, whole, length);
	CHECK(!take(length)); /* a second time */
	CHECK(send_one(5, 'b', 1, 1));
	memcpy(wire, whole, length);
	CHECK(!take(length));
	CHECK_STR(kept(), "ab");
	/* To a life of the receiver that is over. */
	CHECK(add(5, 'c', 40));
	CHECK(!take(close_to(RECEIVER + 1, 1, 1)));
}

int main(void)
{
	RUN(frames_come_as_they_were_and_in_order);
	RUN(what_a_checkpoint_contains_is_forgotten);
	RUN(another_life_of_the_service_begins_anew);
	RUN(a_stamp_that_is_no_epoch_is_refused);
	RUN(one_stamp_a_datagram_and_none_too_long);
	RUN(without_room_the_newest_are_left_out);
	RUN(every_flipped_bit_and_every_other_length_is_refused);
	RUN(recordings_and_other_ends_are_refused);
	anew();
	hold_close(&keeper.kept);
	return check_report();
}
