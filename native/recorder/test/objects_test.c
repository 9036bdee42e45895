/* The table of objects by address, with what thousands of locks in arrays make of it. The rest of the recorder is played here. */
#include "recorder/objects.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "test/check.h"

enum { LOCKS = 6000, LOCK_BYTES = 40, SPINS = 4096, SPIN_BYTES = 4, REGION_BYTES = 1 << 20 };

static struct log_header header = {.mode = LOG_MODE_RECORD};
struct log_file ft_log = {.header = &header};
struct ft_shared ft_shared;
static int lost;
void ft_lost(enum log_loss why)
{
	(void)why;
	lost++;
}
long ft_syscall(long number, ...) { return number == SYS_sched_yield ? syscall(number) : 0; }

/* Nobody looks at what is there. */
static const void *at(uint64_t region, uint64_t offset) { return (const void *)(region * REGION_BYTES + offset); }

/* Whose neighbours come to lie upon those of the first, as far as can be. */
static uint64_t region_upon(uint64_t first)
{
	uint64_t best = first + 1, best_distance = FT_SLOTS;
	for (uint64_t region = first + 1; region < first + 100000; region++) {
		uint64_t distance = (uint64_t)(ft_slot_near(at(region, 0)) - ft_slot_near(at(first, 0))) % FT_SLOTS;
		if (distance < best_distance) {
			best = region;
			best_distance = distance;
		}
	}
	return best;
}

/* How many of an array have another id than the one that comes next. */
static int wrong_ids(uint64_t region, uint32_t count, uint32_t bytes, uint32_t first, bool fast)
{
	int wrong = 0;
	for (uint32_t i = 0; i < count; i++)
		wrong += (fast ? ft_object_at(at(region, i * bytes)) : ft_object_of(at(region, i * bytes))) != first + i;
	return wrong;
}

TEST(arrays_of_locks_that_overlap_in_the_table_keep_their_ids)
{
	uint64_t first = 0x55500, second = region_upon(first);
	uint32_t next = ft_object_new() + 1;
	for (int again = 0; again < 2; again++) {
		CHECK_EQ(wrong_ids(first, LOCKS, LOCK_BYTES, next, false), 0);
		CHECK_EQ(wrong_ids(second, LOCKS, LOCK_BYTES, next + LOCKS, true), 0);
	}
	CHECK_EQ(wrong_ids(first, LOCKS, LOCK_BYTES, next, true), 0);
	CHECK_EQ(lost, 0);
}

TEST(objects_smaller_than_a_slots_share_of_memory_have_one_each)
{
	uint32_t next = ft_object_new() + 1;
	CHECK_EQ(wrong_ids(0x66600, SPINS, SPIN_BYTES, next, false), 0);
	CHECK_EQ(wrong_ids(0x66600, SPINS, SPIN_BYTES, next, true), 0);
	CHECK_EQ(lost, 0);
}

TEST(what_is_made_anew_is_another_object)
{
	const void *address = at(0x77700, 64);
	uint32_t id = ft_object_at(address);
	CHECK_EQ(ft_object_known(address), id);
	ft_object_forget(address);
	CHECK_EQ(ft_object_known(address), 0);
	CHECK(ft_object_at(address) != id);
	CHECK(ft_object_is(address, ft_object_at(address)));
	CHECK_EQ(ft_object_known(at(0x77700, 128)), 0);
}

TEST(a_replay_gives_no_id)
{
	atomic_store(&header.mode, LOG_MODE_REPLAY);
	CHECK_EQ(ft_object_at(at(0x88800, 0)), 0);
	CHECK(ft_object_is(at(0x88800, 0), 77));
	CHECK_EQ(ft_object_at(at(0x88800, 0)), 77);
	CHECK(!ft_object_is(at(0x88800, 0), 78));
}

int main(void)
{
	RUN(arrays_of_locks_that_overlap_in_the_table_keep_their_ids);
	RUN(objects_smaller_than_a_slots_share_of_memory_have_one_each);
	RUN(what_is_made_anew_is_another_object);
	RUN(a_replay_gives_no_id);
	return check_report();
}
