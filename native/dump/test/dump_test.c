/* The pure parts of ftdump: the metadata file, quoting CRIU's log, reading /proc/PID/maps. */
#include <stdlib.h>

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

TEST(shared_writable_files_are_found_in_maps)
{
	struct files_inode_id id;
	CHECK(tree_maps_line("7f00-7f10 rw-s 00000000 fe:00 2156182                    /data/shared.db\n", &id));
	CHECK_EQ(id.ino, 2156182);
	CHECK(!tree_maps_line("7f00-7f10 rw-p 00000000 fe:00 2156182                    /usr/lib/libc.so\n", &id));
	CHECK(!tree_maps_line("7f00-7f10 r--s 00000000 fe:00 2156182                    /data/read-only\n", &id));
	CHECK(!tree_maps_line("7f00-7f10 rw-s 00000000 00:01 1026                       /dev/zero (deleted)\n", &id));
	CHECK(!tree_maps_line("7f00-7f10 rw-s 00000000 00:01 4                          /memfd:pool (deleted)\n", &id));
	CHECK(!tree_maps_line("7f00-7f10 rw-s 00000000 00:01 4                          /SYSV00000000 (deleted)\n", &id));
	CHECK(!tree_maps_line("7f00-7f10 rw-p 00000000 00:00 0                          [heap]\n", &id));
	CHECK(!tree_maps_line("", &id));
}

TEST(shortcuts_have_names)
{
	char text[64];
	shortcuts_list(HOOK_SHORTCUTS, text, sizeof text);
	CHECK_STR(text, "splices,pages,smaps,mark,late");
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
	RUN(shared_writable_files_are_found_in_maps);
	RUN(shortcuts_have_names);
	return check_report();
}
