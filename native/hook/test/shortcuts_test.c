/* The shortcuts outside of CRIU: what they give is what the plain way gives. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook/helper.h"
#include "hook/images.h"
#include "hook/pages.h"
#include "hook/smaps.h"
#include "hook/splices.h"
#include "test/check.h"

enum { RUN_BYTES = 4096, RUNS = 8 };

static char folder[] = "/dev/shm/hook-test-XXXXXX";
static int directory = -1;

static int image(const char *name)
{
	return openat(directory, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
}

static void fill(int pipe_end, char from)
{
	char run[RUN_BYTES];
	for (int i = 0; i < RUNS; i++) {
		memset(run, from + i, sizeof run);
		CHECK_EQ(write(pipe_end, run, sizeof run), (ssize_t)sizeof run);
	}
}

static void check_runs(int fd, off_t at, char from)
{
	char run[RUN_BYTES], expected[RUN_BYTES];
	for (int i = 0; i < RUNS; i++) {
		memset(expected, from + i, sizeof expected);
		CHECK_EQ(pread(fd, run, sizeof run, at + i * RUN_BYTES), (ssize_t)sizeof run);
		CHECK_EQ(memcmp(run, expected, sizeof run), 0);
	}
}

TEST(splices_arrive_in_order_from_pipes_that_are_closed)
{
	int ends[2];
	int fd = image("pages-7.img"), kept = dup(fd);
	splices_image("pages-7.img", fd);
	for (char from = 'A'; from <= 'K'; from += 10) {
		CHECK_EQ(pipe(ends), 0);
		splices_piped(ends[0], ends[1]);
		fill(ends[1], from);
		for (int i = 0; i < RUNS; i++)
			CHECK(splices_take(ends[0], fd, RUN_BYTES));
		for (int i = 0; i < 2; i++) {
			splices_closed(ends[i]);
			close(ends[i]);
		}
	}
	splices_closed(fd);
	close(fd);
	CHECK(splices_finish());
	check_runs(kept, 0, 'A');
	check_runs(kept, RUNS * RUN_BYTES, 'K');
	close(kept);
}

TEST(only_images_of_pages_are_spliced_beside)
{
	int ends[2], fd = image("pipes-data.img");
	CHECK_EQ(pipe(ends), 0);
	splices_image("pipes-data.img", fd);
	CHECK(!splices_take(ends[0], fd, RUN_BYTES));
	close(fd);
	close(ends[0]);
	close(ends[1]);
}

TEST(what_is_set_aside_and_not_written_is_given_back)
{
	struct stat now;
	CHECK(pages_prepare(directory, "pages-1.img", 1 << 20));
	CHECK_EQ(pages_open(directory, "core-1.img", O_WRONLY | O_CREAT | O_TRUNC), -1);
	CHECK_EQ(pages_open(directory, "pages-1.img", O_RDONLY), -1);
	int fd = pages_open(directory, "pages-1.img", O_WRONLY | O_CREAT | O_TRUNC);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "memory", 6), 6);
	close(fd);
	CHECK(pages_trim());
	CHECK_EQ(fstatat(directory, "pages-1.img", &now, 0), 0);
	CHECK_EQ(now.st_size, 6);
}

static int open_kept(const char *name)
{
	return images_open(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
}

static bool put(int fd, const void *bytes, size_t length)
{
	const struct iovec halves[] = { { (void *)(uintptr_t)bytes, length / 2 }, { (char *)(uintptr_t)bytes + length / 2, length - length / 2 } };
	ssize_t written = -1;
	return images_take(fd, halves, 2, &written) && written == (ssize_t)length;
}

static void check_file(const char *name, const void *bytes, size_t length)
{
	static char found[1 << 17];
	int fd = openat(directory, name, O_RDONLY);
	CHECK(fd >= 0);
	CHECK_EQ(read(fd, found, sizeof found), (ssize_t)length);
	CHECK_EQ(memcmp(found, bytes, length), 0);
	close(fd);
	CHECK_EQ(unlinkat(directory, name, 0), 0);
}

TEST(small_images_become_files_when_they_are_saved)
{
	struct stat now;
	CHECK_EQ(open_kept("core-1.img"), -1); /* nothing is prepared */
	CHECK(images_prepare(directory, 64 << 10));
	int other = open("/", O_RDONLY | O_DIRECTORY);
	CHECK_EQ(images_open(other, "core-1.img", O_WRONLY | O_CREAT | O_TRUNC, 0600), -1);
	CHECK_EQ(images_open(directory, "core-1.img", O_RDONLY, 0), -1);
	CHECK_EQ(open_kept("pages-1.img"), -1);
	CHECK_EQ(open_kept("core-/../1.img"), -1);
	int core = open_kept("core-1.img"), stream = open_kept("tcp-stream-7.img"), none = open_kept("fs-1.img");
	CHECK(core >= 0 && stream >= 0 && none >= 0);
	CHECK_EQ(write(core, "x", 1), -1); /* what is not answered fails */
	CHECK(put(core, "one ", 4) && put(stream, "stream", 6) && put(core, "two", 3));
	images_closed(core);
	close(core);
	CHECK(!put(core, "three", 5));
	images_closed(none);
	close(none);
	CHECK_EQ(fstatat(directory, "core-1.img", &now, 0), -1);
	/* One that is still open becomes a file all the same, and CRIU's descriptor is that. */
	CHECK(images_all_kept());
	CHECK(images_save());
	CHECK_EQ(write(stream, " more", 5), 5);
	close(stream);
	close(other);
	check_file("core-1.img", "one two", 7);
	check_file("tcp-stream-7.img", "stream more", 11);
	check_file("fs-1.img", "", 0);
}

TEST(an_image_that_there_is_no_room_for_becomes_a_file_at_once)
{
	static char expected[40 << 10];
	memset(expected, 'a', 20 << 10);
	memset(expected + (20 << 10), 'b', 20 << 10);
	CHECK(images_prepare(directory, 32 << 10));
	int large = open_kept("pagemap-1.img"), small = open_kept("mm-1.img");
	CHECK(put(large, expected, 20 << 10));
	CHECK(!put(large, expected + (20 << 10), 20 << 10));
	CHECK(!images_all_kept());
	CHECK_EQ(write(large, expected + (20 << 10), 20 << 10), 20 << 10);
	CHECK(put(small, "small", 5));
	images_closed(large);
	close(large);
	images_closed(small);
	close(small);
	CHECK(images_save());
	check_file("pagemap-1.img", expected, sizeof expected);
	check_file("mm-1.img", "small", 5);
}

TEST(smaps_keeps_areas_and_flags)
{
	char text[] = "7ffe0000-7ffe1000 rw-p 00000000 00:00 0   [stack]\nSize:   4 kB\nVmFlags: rd wr mr gd\n"
		      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\nRss: 0 kB\nVmFlags: ex";
	size_t length = smaps_filter(text, strlen(text));
	text[length] = 0;
	CHECK_STR(text, "7ffe0000-7ffe1000 rw-p 00000000 00:00 0   [stack]\nVmFlags: rd wr mr gd\n"
			"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\nVmFlags: ex");
	CHECK_EQ(smaps_filter(text, 0), 0);
}

TEST(smaps_is_that_of_the_task_it_was_prepared_for)
{
	char text[65536];
	int self = open("/proc/self", O_PATH | O_DIRECTORY), init = open("/proc/1", O_PATH | O_DIRECTORY);
	CHECK(smaps_prepare(getpid()));
	CHECK_EQ(smaps_open(self, "smaps"), -1);
	smaps_begin();
	CHECK_EQ(smaps_open(init, "smaps"), -1);
	CHECK_EQ(smaps_open(self, "maps"), -1);
	int fd = smaps_open(self, "smaps");
	CHECK(fd >= 0);
	ssize_t got = read(fd, text, sizeof text - 1);
	CHECK(got > 0);
	text[got > 0 ? got : 0] = 0;
	CHECK(strstr(text, "\nVmFlags: ") != NULL && strstr(text, "\nRss:") == NULL);
	close(fd);
	close(self);
	close(init);
}

/* Last: a failure stays. */
TEST(a_pipe_with_less_in_it_is_a_failure)
{
	int ends[2], fd = image("pages-9.img");
	CHECK_EQ(pipe(ends), 0);
	CHECK_EQ(write(ends[1], "few", 3), 3);
	splices_image("pages-9.img", fd);
	CHECK(splices_take(ends[0], fd, RUN_BYTES));
	CHECK(!splices_finish());
	CHECK(!splices_whole());
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

int main(void)
{
	directory = mkdtemp(folder) == NULL ? -1 : open(folder, O_RDONLY | O_DIRECTORY);
	if (directory < 0 || !helper_start())
		return 1;
	RUN(splices_arrive_in_order_from_pipes_that_are_closed);
	RUN(only_images_of_pages_are_spliced_beside);
	RUN(what_is_set_aside_and_not_written_is_given_back);
	RUN(small_images_become_files_when_they_are_saved);
	RUN(an_image_that_there_is_no_room_for_becomes_a_file_at_once);
	RUN(smaps_keeps_areas_and_flags);
	RUN(smaps_is_that_of_the_task_it_was_prepared_for);
	RUN(a_pipe_with_less_in_it_is_a_failure);
	unlinkat(directory, "pages-7.img", 0);
	unlinkat(directory, "pages-9.img", 0);
	unlinkat(directory, "pages-1.img", 0);
	unlinkat(directory, "pipes-data.img", 0);
	close(directory);
	rmdir(folder);
	return check_report();
}
