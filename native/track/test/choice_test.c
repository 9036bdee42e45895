/* Which way of finding written pages is chosen, of what a kernel can; and that this one's choice is one of them. */
#include <errno.h>
#include <stdio.h>

#include "test/check.h"
#include "track/tracker.h"

static int tried;

static int can(char *why, size_t size)
{
	snprintf(why, size, "%s", "");
	tried++;
	return 0;
}

static int no_protection(char *why, size_t size)
{
	snprintf(why, size, "no protection");
	tried++;
	return EINVAL;
}

static int no_bits(char *why, size_t size)
{
	snprintf(why, size, "no bits");
	tried++;
	return EPROTO;
}

static const struct track_ways new_kernel = { can, no_bits }, both = { can, can }, old_kernel = { no_protection, can },
			       neither = { no_protection, no_bits };

static char why[TRACK_WHY_BYTES];

TEST(the_best_that_works_is_chosen)
{
	tried = 0;
	CHECK_EQ(track_choose_of(&new_kernel, TRACK_WP_ASYNC, why, sizeof why), TRACK_WP_ASYNC);
	CHECK_STR(why, "");
	CHECK_EQ(track_choose_of(&both, TRACK_WP_ASYNC, why, sizeof why), TRACK_WP_ASYNC);
	CHECK_STR(why, "");
	CHECK_EQ(tried, 2); /* the bits are not asked for */
}

TEST(soft_dirty_bits_are_next_and_it_is_said_why)
{
	CHECK_EQ(track_choose_of(&old_kernel, TRACK_WP_ASYNC, why, sizeof why), TRACK_SOFT_DIRTY);
	CHECK_STR(why, "no protection");
}

TEST(all_memory_is_dumped_where_nothing_works)
{
	CHECK_EQ(track_choose_of(&neither, TRACK_WP_ASYNC, why, sizeof why), TRACK_FULL);
	CHECK_STR(why, "no protection; no bits");
	char little[16];
	CHECK_EQ(track_choose_of(&neither, TRACK_WP_ASYNC, little, sizeof little), TRACK_FULL);
	CHECK_STR(little, "no protection; ");
}

TEST(what_is_asked_for_by_name_is_all_that_is_tried)
{
	CHECK_EQ(track_choose_of(&both, TRACK_SOFT_DIRTY, why, sizeof why), TRACK_SOFT_DIRTY);
	CHECK_STR(why, "");
	CHECK_EQ(track_choose_of(&new_kernel, TRACK_SOFT_DIRTY, why, sizeof why), TRACK_FULL);
	CHECK_STR(why, "no bits");
	tried = 0;
	CHECK_EQ(track_choose_of(&both, TRACK_FULL, why, sizeof why), TRACK_FULL);
	CHECK_STR(why, "switched off (tracking: full)");
	CHECK_EQ(tried, 0);
}

/* As in mode hybrid. */
TEST(bits_that_are_not_to_be_used_are_not_tried)
{
	static const struct track_ways only = { can, NULL }, none = { no_protection, NULL };
	CHECK_EQ(track_choose_of(&only, TRACK_WP_ASYNC, why, sizeof why), TRACK_WP_ASYNC);
	CHECK_EQ(track_choose_of(&none, TRACK_WP_ASYNC, why, sizeof why), TRACK_FULL);
	CHECK_STR(why, "no protection; soft-dirty bits are not to be used (mode hybrid)");
}

TEST(this_kernel_is_tried_and_what_does_not_work_has_a_reason)
{
	enum track_mode mode = track_choose(TRACK_WP_ASYNC, false, why, sizeof why);
	printf("  here: %s %s\n", track_called(mode), why);
	CHECK((mode == TRACK_WP_ASYNC) == (why[0] == 0));
	mode = track_choose(TRACK_SOFT_DIRTY, false, why, sizeof why);
	CHECK((mode == TRACK_SOFT_DIRTY) == (why[0] == 0));
}

int main(void)
{
	RUN(the_best_that_works_is_chosen);
	RUN(soft_dirty_bits_are_next_and_it_is_said_why);
	RUN(all_memory_is_dumped_where_nothing_works);
	RUN(what_is_asked_for_by_name_is_all_that_is_tried);
	RUN(bits_that_are_not_to_be_used_are_not_tried);
	RUN(this_kernel_is_tried_and_what_does_not_work_has_a_reason);
	return check_report();
}
