/* What counts as unchanged by soft-dirty bits and frames; and files of frames, right ones and any other. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hook/dirty.h"
#include "test/check.h"

enum { PAGE = 4096, PID = 7, PAGES = 8 };
#define AT 0x10000ull
#define THERE(frame) (PAGEMAP_PRESENT | (frame))

static const struct area tracked[] = { { PID, 0, AT, AT + PAGES * PAGE } };

struct world {
	struct frames before, now;
	struct kept_list kept;
	uint64_t zeros; /* 0: not known */
	bool any_frame;
};

/* Looks at one answer of a whole area. */
static int look(struct world *world, const struct area *area, uint32_t pid, uint64_t *entry)
{
	const struct dirty_look how = { .area = area, .areas = 1, .before = &world->before, .zero = 99, .zeros = world->zeros,
					.any_frame = world->any_frame, .now = &world->now, .kept = &world->kept };
	return dirty_filter(&how, pid, AT, entry, PAGES);
}

static void end(struct world *world)
{
	frames_free(&world->before);
	frames_free(&world->now);
	free(world->kept.at);
	*world = (struct world){ 0 };
}

/* A dump in which all was written, whose frames are `first` and the numbers after it. */
static void begin(struct world *world, uint64_t first)
{
	uint64_t entry[PAGES];
	for (size_t i = 0; i < PAGES; i++)
		entry[i] = THERE(first + i) | PAGEMAP_SOFT_DIRTY;
	CHECK_EQ(look(world, tracked, PID, entry), 0);
	CHECK_EQ(world->kept.count, 0);
	CHECK_EQ(entry[0], THERE(first) | PAGEMAP_SOFT_DIRTY);
	world->before = world->now;
	world->now = (struct frames){ 0 };
}

TEST(only_what_is_clean_and_in_its_frame_is_unchanged)
{
	struct world world = { 0 };
	begin(&world, 100);
	uint64_t entry[PAGES] = {
		THERE(100),			 /* as it was */
		THERE(101) | PAGEMAP_SOFT_DIRTY, /* written */
		THERE(555),			 /* its page table was moved here */
		0,				 /* gone */
		THERE(99),			 /* zeros, read */
		PAGEMAP_SWAPPED | 105,		 /* swapped out */
		THERE(106) | PAGEMAP_OF_FILE,
		THERE(107),
	};
	uint64_t was[PAGES];
	memcpy(was, entry, sizeof was);
	CHECK_EQ(look(&world, tracked, PID, entry), 0);
	CHECK_EQ(entry[0], 0);
	CHECK_EQ(entry[7], 0);
	for (size_t i = 1; i < 7; i++)
		CHECK_EQ(entry[i], was[i]);
	CHECK_EQ(world.kept.count, 2);
	CHECK_EQ(world.kept.at[0].start, AT);
	CHECK_EQ(world.kept.at[0].end, AT + PAGE);
	CHECK_EQ(world.kept.at[1].start, AT + 7 * PAGE);
	CHECK_EQ(frames_find(&world.now, PID, AT), THERE(100)); /* what is hidden is known to the next */
	CHECK_EQ(frames_find(&world.now, PID, AT + 3 * PAGE), 0);
	end(&world);
}

TEST(whole_areas_other_processes_and_other_places_are_shown)
{
	static const struct area whole = { PID, AREA_WHOLE, AT, AT + PAGES * PAGE }, beside = { PID, 0, AT + PAGES * PAGE, AT + 9 * PAGE };
	for (int which = 0; which < 3; which++) {
		struct world world = { 0 };
		uint64_t entry[PAGES], was[PAGES];
		begin(&world, 100);
		for (size_t i = 0; i < PAGES; i++)
			was[i] = entry[i] = THERE(100 + i);
		CHECK_EQ(look(&world, which == 0 ? &whole : which == 1 ? &beside : tracked, which == 2 ? PID + 1 : PID, entry), 0);
		CHECK(memcmp(entry, was, sizeof was) == 0);
		CHECK_EQ(world.kept.count, 0);
		end(&world);
	}
}

/* The kernel may have made it of the frames that were dropped: all is as it was, but for what it holds. */
TEST(the_huge_page_of_zeros_is_never_unchanged)
{
	struct world world = { .zeros = 1024 };
	uint64_t entry[PAGES], was[PAGES];
	begin(&world, 1024 - 4);
	for (size_t i = 0; i < PAGES; i++)
		was[i] = entry[i] = THERE(1024 - 4 + i);
	CHECK_EQ(look(&world, tracked, PID, entry), 0);
	for (size_t i = 0; i < PAGES; i++)
		CHECK_EQ(entry[i], i < 4 ? 0 : was[i]);
	end(&world);
}

TEST(where_it_is_not_known_what_lies_like_a_huge_page_counts_as_changed)
{
	for (int like = 0; like < 2; like++) {
		struct world world = { 0 };
		uint64_t entry[PAGES], first = 4 * HUGE_PAGES + AT / PAGE % HUGE_PAGES + (like == 0);
		begin(&world, first);
		for (size_t i = 0; i < PAGES; i++)
			entry[i] = THERE(first + i);
		CHECK_EQ(look(&world, tracked, PID, entry), 0);
		CHECK_EQ(entry[0], like == 0 ? 0 : THERE(first));
		CHECK_EQ(world.kept.count, like == 0 ? 1 : 0);
		end(&world);
	}
}

/* What the test of the whole takes away, to see itself fail. */
TEST(with_any_frame_the_bit_alone_is_believed)
{
	struct world world = { .any_frame = true };
	uint64_t entry[PAGES] = { THERE(555), THERE(101) | PAGEMAP_SOFT_DIRTY };
	begin(&world, 100);
	CHECK_EQ(look(&world, tracked, PID, entry), 0);
	CHECK_EQ(entry[0], 0);
	CHECK_EQ(entry[1], THERE(101) | PAGEMAP_SOFT_DIRTY);
	end(&world);
}

static int file_of(const void *bytes, size_t length)
{
	int fd = memfd_create("frames", MFD_CLOEXEC);
	if (fd < 0 || write(fd, bytes, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) != 0)
		abort();
	return fd;
}

TEST(a_file_comes_back_and_no_other_bytes_do)
{
	struct world world = { 0 };
	struct frames got;
	static uint8_t bytes[4096];
	begin(&world, 100);
	int fd = memfd_create("frames", MFD_CLOEXEC);
	CHECK_EQ(frames_write(fd, &world.before), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	ssize_t length = read(fd, bytes, sizeof bytes);
	close(fd);
	CHECK(length > 0 && length < (ssize_t)sizeof bytes);
	fd = file_of(bytes, (size_t)length);
	CHECK_EQ(frames_read(fd, &got), 0);
	CHECK_EQ(frames_find(&got, PID, AT + 5 * PAGE), THERE(105) | PAGEMAP_SOFT_DIRTY);
	CHECK_EQ(frames_find(&got, PID, AT + PAGES * PAGE), 0);
	CHECK_EQ(frames_find(&got, PID + 1, AT), 0);
	close(fd);
	frames_free(&got);
	for (ssize_t i = 0; i < length; i++) {
		bytes[i] ^= 0x11;
		fd = file_of(bytes, (size_t)length);
		CHECK_EQ(frames_read(fd, &got), -1);
		close(fd);
		bytes[i] ^= 0x11;
		fd = file_of(bytes, (size_t)i);
		CHECK_EQ(frames_read(fd, &got), -1);
		close(fd);
	}
	end(&world);
}

int main(void)
{
	RUN(only_what_is_clean_and_in_its_frame_is_unchanged);
	RUN(the_huge_page_of_zeros_is_never_unchanged);
	RUN(where_it_is_not_known_what_lies_like_a_huge_page_counts_as_changed);
	RUN(with_any_frame_the_bit_alone_is_believed);
	RUN(whole_areas_other_processes_and_other_places_are_shown);
	RUN(a_file_comes_back_and_no_other_bytes_do);
	return check_report();
}
