#include "gate/spin.h"

#include "test/check.h"

#define PATIENCE_NS 100000ull

static struct spin spin;
static uint64_t now_ns;

/* One chance, each asking 1 µs; it comes after `after_ns`. Whether it was spun for. */
static bool chance(enum spin_hope hope, uint64_t after_ns)
{
	now_ns += 1000000;
	if (!spin_begin(&spin, hope, now_ns))
		return false;
	for (uint64_t spent_ns = 0;; spent_ns += 1000, now_ns += 1000) {
		if (spent_ns >= after_ns) {
			spin_paid(&spin);
			return true;
		}
		if (!spin_goes_on(&spin, now_ns, now_ns + 1000))
			return true;
	}
}

static void open_spin(uint64_t patience_ns)
{
	now_ns = 1000000000;
	spin_open(&spin, patience_ns);
}

TEST(what_pays_goes_on)
{
	open_spin(PATIENCE_NS);
	for (unsigned i = 0; i < 1000; i++)
		CHECK(chance(SPIN_ACK, PATIENCE_NS / 2));
	/* One in ten does not: no reason to stop. */
	for (unsigned i = 0; i < 1000; i++)
		CHECK(chance(SPIN_ACK, i % 10 == 0 ? PATIENCE_NS * 2 : PATIENCE_NS / 2));
	CHECK_EQ(spin.tried, 2000);
	CHECK_EQ(spin.paid, 1900);
}

TEST(what_does_not_pay_is_tried_one_time_in_32)
{
	unsigned tried = 0;
	open_spin(PATIENCE_NS);
	for (unsigned i = 0; i < 100; i++)
		(void)chance(SPIN_REQUEST, PATIENCE_NS * 2);
	for (unsigned i = 0; i < 3200; i++)
		tried += chance(SPIN_REQUEST, PATIENCE_NS * 2);
	CHECK_EQ(tried, 100);
	/* A half is too little. */
	tried = 0;
	for (unsigned i = 0; i < 3200; i++)
		tried += chance(SPIN_REQUEST, i % 2 == 0 ? 0 : PATIENCE_NS * 2);
	CHECK(tried <= 300);
	/* Its own hope alone is given up. */
	CHECK(chance(SPIN_ACK, 0));
}

TEST(what_pays_again_is_found_again)
{
	unsigned tried = 0;
	open_spin(PATIENCE_NS);
	for (unsigned i = 0; i < 100; i++)
		(void)chance(SPIN_ANSWER, PATIENCE_NS * 2);
	for (unsigned i = 0; i < 100; i++)
		tried += chance(SPIN_ANSWER, 0);
	CHECK(tried > 50);
}

TEST(an_attempt_is_bounded)
{
	open_spin(PATIENCE_NS);
	CHECK(spin_begin(&spin, SPIN_ACK, now_ns));
	CHECK(spin_goes_on(&spin, now_ns + PATIENCE_NS - 2000, now_ns + PATIENCE_NS - 1000));
	CHECK(!spin_goes_on(&spin, now_ns + PATIENCE_NS - 1000, now_ns + PATIENCE_NS));
	CHECK_EQ(spin.until_ns, 0);
}

TEST(where_others_need_the_processor_it_sleeps)
{
	open_spin(PATIENCE_NS);
	CHECK(spin_begin(&spin, SPIN_ACK, now_ns));
	CHECK(!spin_goes_on(&spin, now_ns, now_ns + SPIN_TAKEN_NS));
	now_ns += SPIN_TAKEN_NS;
	CHECK(!spin_begin(&spin, SPIN_ACK, now_ns + SPIN_AWAY_NS - 1));
	CHECK(!spin_begin(&spin, SPIN_ANSWER, now_ns + SPIN_AWAY_NS - 1));
	CHECK(spin_begin(&spin, SPIN_ACK, now_ns + SPIN_AWAY_NS));
}

TEST(none_without_patience_or_hope)
{
	open_spin(0);
	CHECK(!spin_begin(&spin, SPIN_ACK, now_ns));
	open_spin(PATIENCE_NS);
	CHECK(!spin_begin(&spin, SPIN_NOTHING, now_ns));
}

int main(void)
{
	RUN(what_pays_goes_on);
	RUN(what_does_not_pay_is_tried_one_time_in_32);
	RUN(what_pays_again_is_found_again);
	RUN(an_attempt_is_bounded);
	RUN(where_others_need_the_processor_it_sleeps);
	RUN(none_without_patience_or_hope);
	return check_report();
}
