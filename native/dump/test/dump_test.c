/* The pure parts of ftdump: the metadata file, quoting CRIU's log, reading /proc/PID/maps. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "dump/logs.h"
#include "dump/meta.h"
#include "dump/shortcuts.h"
#include "dump/tree.h"
#include "hook/message.h"
#include "test/check.h"

static const struct meta sample = { .app_pid = 7, .pipe_ino = { 0, 15390, 18446744073 }, .monotonic_ns = 123456789012345 };

TEST(metadata_comes_back_as_it_was)
{
	char text[META_BYTES_MAX];
	struct meta got;
	int length = meta_format(&sample, text, sizeof text);
	CHECK(length > 0);
	CHECK_EQ(meta_parse(text, (size_t)length, &got), 0);
	CHECK_EQ(got.app_pid, 7);
	CHECK_EQ(got.pipe_ino[0], 0);
	CHECK_EQ(got.pipe_ino[2], 18446744073);
	CHECK_EQ(got.monotonic_ns, 123456789012345);
}

TEST(metadata_with_any_bit_flipped_is_refused)
{
	char text[META_BYTES_MAX];
	struct meta got;
	int length = meta_format(&sample, text, sizeof text);
	for (int bit = 0; bit < length * 8; bit++) {
		text[bit / 8] ^= (char)(1 << bit % 8);
		CHECK_EQ(meta_parse(text, (size_t)length, &got), -1);
		text[bit / 8] ^= (char)(1 << bit % 8);
	}
}

TEST(metadata_cut_short_is_refused)
{
	char text[META_BYTES_MAX];
	struct meta got;
	int length = meta_format(&sample, text, sizeof text);
	for (int cut = 0; cut < length; cut++) {
		char *exact = malloc((size_t)cut + 1); /* so that the sanitizer sees a read beyond */
		memcpy(exact, text, (size_t)cut);
		CHECK_EQ(meta_parse(exact, (size_t)cut, &got), -1);
		free(exact);
	}
}

TEST(metadata_of_nonsense_is_refused_even_with_a_right_checksum)
{
	struct meta bad = sample, got;
	char text[META_BYTES_MAX];
	bad.app_pid = 1;
	int length = meta_format(&bad, text, sizeof text);
	CHECK_EQ(meta_parse(text, (size_t)length, &got), -1);
	bad.app_pid = -5;
	length = meta_format(&bad, text, sizeof text);
	CHECK_EQ(meta_parse(text, (size_t)length, &got), -1);
}

TEST(quotes_error_lines_only)
{
	static const char log[] = "Warn  (criu/x.c:1): nothing\nError (criu/a.c:1): first\nplain\nError (criu/b.c:2): last";
	char out[256];
	logs_errors(log, sizeof log - 1, out, sizeof out);
	CHECK_STR(out, "Error (criu/a.c:1): first\nError (criu/b.c:2): last");
}

TEST(leaves_out_what_criu_says_on_every_run)
{
	static const char log[] = "Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
				  "Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory\n"
				  "Error (criu/sk-inet.c:1): Connected TCP socket\n";
	char out[256];
	logs_errors(log, sizeof log - 1, out, sizeof out);
	CHECK_STR(out, "Error (criu/sk-inet.c:1): Connected TCP socket");
}

TEST(quotes_no_more_than_fits)
{
	static const char log[] = "Error (a): 0123456789\nError (b): 0123456789\n";
	char out[30];
	logs_errors(log, sizeof log - 1, out, sizeof out);
	CHECK_STR(out, "Error (a): 0123456789");
	logs_errors(log, sizeof log - 1, out, 1);
	CHECK_STR(out, "");
}

static bool maps_line(const char *text, struct files_use *use)
{
	static char line[256];
	snprintf(line, sizeof line, "%s", text);
	return tree_maps_line(line, use);
}

TEST(shared_files_are_found_in_maps)
{
	struct files_use use;
	CHECK(maps_line("7f00-7f10 rw-s 00000000 fe:00 2156182                    /data/shared.db\n", &use));
	CHECK_EQ(use.ino, 2156182);
	CHECK_EQ(use.mapped, 1);
	CHECK_STR(use.path, "/data/shared.db");
	CHECK(maps_line("7f00-7f10 rw-s 00000000 fe:00 7                          /data/two\\012lines (deleted)\n", &use));
	CHECK_STR(use.path, "/data/two\nlines (deleted)");
	/* It may have been writable a moment ago. */
	CHECK(maps_line("7f00-7f10 r--s 00000000 fe:00 2156182                    /data/read-only\n", &use));
	CHECK_EQ(use.mapped, 0);
	CHECK(!maps_line("7f00-7f10 rw-p 00000000 fe:00 2156182                    /usr/lib/libc.so\n", &use));
	CHECK(!maps_line("7f00-7f10 rw-s 00000000 00:01 1026                       /dev/zero (deleted)\n", &use));
	CHECK(!maps_line("7f00-7f10 rw-s 00000000 00:01 4                          /memfd:pool (deleted)\n", &use));
	CHECK(!maps_line("7f00-7f10 rw-s 00000000 00:01 4                          /SYSV00000000 (deleted)\n", &use));
	CHECK(!maps_line("7f00-7f10 rw-s 00000000 00:13 1418                       /[aio] (deleted)\n", &use));
	CHECK(!maps_line("7f00-7f10 rw-p 00000000 00:00 0                          [heap]\n", &use));
	CHECK(!maps_line("", &use));
}

TEST(files_open_for_writing_are_found)
{
	static struct tree tree = { .processes = 1 };
	static struct tree_uses uses;
	char path[] = "/var/tmp/ft-dump-XXXXXX";
	struct stat st;
	int fd = mkstemp(path), reading = open(path, O_RDONLY), found = 0, failed;
	tree.pid[0] = getpid();
	failed = fd < 0 || reading < 0 || fstat(fd, &st) != 0 || tree_uses_read(&tree, &uses) != 0;
	for (size_t i = 0; i < uses.count; i++)
		found += uses.use[i].ino == st.st_ino && strcmp(uses.use[i].path, path) == 0 && !uses.use[i].mapped;
	close(fd);
	failed |= tree_uses_read(&tree, &uses) != 0;
	for (size_t i = 0; i < uses.count; i++)
		found += 10 * (uses.use[i].ino == st.st_ino);
	close(reading);
	unlink(path);
	CHECK(!failed);
	CHECK_EQ(found, 1);
	CHECK(uses.doubt == NULL);
}

TEST(shortcuts_have_names)
{
	char text[128];
	shortcuts_list(HOOK_SHORTCUTS, text, sizeof text);
	CHECK_STR(text, "splices,pages,smaps,mark,late,flags,quick,images,descriptors,texts");
	shortcuts_list(0, text, sizeof text);
	CHECK_STR(text, "");
	CHECK_EQ(shortcut_called("smaps"), HOOK_SMAPS);
	CHECK_EQ(shortcut_called("maps"), 0);
}

int main(void)
{
	RUN(metadata_comes_back_as_it_was);
	RUN(metadata_with_any_bit_flipped_is_refused);
	RUN(metadata_cut_short_is_refused);
	RUN(metadata_of_nonsense_is_refused_even_with_a_right_checksum);
	RUN(quotes_error_lines_only);
	RUN(leaves_out_what_criu_says_on_every_run);
	RUN(quotes_no_more_than_fits);
	RUN(shared_files_are_found_in_maps);
	RUN(files_open_for_writing_are_found);
	RUN(shortcuts_have_names);
	return check_report();
}
