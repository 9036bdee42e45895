#include "line/line.h"
#include "test/check.h"

#include <stdlib.h>

static int parse(const char *text, struct line *out)
{
	static char copy[2 * LINE_BYTES_MAX];
	size_t length = strlen(text);
	memcpy(copy, text, length);
	return line_parse(copy, length, out);
}

TEST(parses_verb_and_pairs)
{
	struct line line;
	uint64_t epoch;
	char path[64];
	CHECK_EQ(parse("dump epoch=18446744073709551615  path=/a%20b%25 empty=", &line), 0);
	CHECK_STR(line.verb, "dump");
	CHECK_EQ(line.pairs, 3);
	CHECK_EQ(line_get_u64(&line, "epoch", &epoch), 0);
	CHECK(epoch == UINT64_MAX);
	CHECK_EQ(line_get_text(&line, "path", path, sizeof path), 0);
	CHECK_STR(path, "/a b%");
	CHECK_STR(line_get(&line, "empty"), "");
	CHECK(line_get(&line, "missing") == NULL);
	CHECK_EQ(line_get_u64(&line, "missing", &epoch), -1);
	CHECK_EQ(line_get_u64(&line, "empty", &epoch), -1);
	CHECK_EQ(line_get_u64_or(&line, "missing", 7, &epoch), 0);
	CHECK_EQ(epoch, 7);
}

TEST(refuses_what_is_no_line)
{
	static const char *const bad[] = {"",	    " mark",	 "mark epoch", "mark =1", "mark epoch=1 epoch=2",
					  "ma\trk", "mark a\x01=1", "m\xc3\xa9",  "mark a=1\rb=2"};
	struct line line;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_EQ(parse(bad[i], &line), -1);
	char many[1024] = "v";
	for (int i = 0; i < LINE_PAIRS_MAX; i++)
		snprintf(many + strlen(many), 32, " k%d=%d", i, i);
	CHECK_EQ(parse(many, &line), 0);
	CHECK_EQ(line.pairs, LINE_PAIRS_MAX);
	strcat(many, " one=more");
	CHECK_EQ(parse(many, &line), -1);
}

TEST(numbers_are_exact)
{
	uint64_t n;
	CHECK_EQ(line_parse_u64("18446744073709551616", &n), -1);
	CHECK_EQ(line_parse_u64("-1", &n), -1);
	CHECK_EQ(line_parse_u64("1x", &n), -1);
	CHECK_EQ(line_parse_u64("0x1", &n), -1);
	CHECK_EQ(line_parse_u64("007", &n), 0);
	CHECK_EQ(n, 7);
}

TEST(percent_coding_goes_both_ways)
{
	char in[256], coded[1024], out[256];
	for (int i = 1; i < 256; i++)
		in[i - 1] = (char)i;
	in[255] = 0;
	line_encode(in, coded, sizeof coded);
	for (const char *at = coded; *at != 0; at++)
		CHECK(*at > 0x20 && *at < 0x7f);
	CHECK_EQ(line_decode(coded, out, sizeof out), 0);
	CHECK_STR(out, in);
	CHECK_EQ(line_decode("%", out, sizeof out), -1);
	CHECK_EQ(line_decode("%2", out, sizeof out), -1);
	CHECK_EQ(line_decode("%zz", out, sizeof out), -1);
	CHECK_EQ(line_decode("%00", out, sizeof out), -1);
	CHECK_EQ(line_decode("abc", out, 3), -1);
	CHECK_EQ(line_decode("", out, 0), -1);
	CHECK_EQ(line_encode("a b", coded, 4), 1);
	CHECK_STR(coded, "a");
}

TEST(writer_stays_within_a_line)
{
	static char long_text[3 * LINE_BYTES_MAX];
	memset(long_text, ' ', sizeof long_text - 1);
	struct line_writer writer;
	line_fail(&writer, "corrupt", 5, long_text);
	CHECK(writer.length <= LINE_BYTES_MAX);
	CHECK(writer.text[writer.length - 1] == '\n');
	struct line line;
	CHECK_EQ(line_parse(writer.text, writer.length - 1, &line), 0);
	CHECK_STR(line.verb, "fail");
	CHECK_STR(line_get(&line, "code"), "corrupt");

	line_begin(&writer, "ok");
	for (int i = 0; i < 2000; i++)
		line_u64(&writer, "n", UINT64_MAX);
	line_end(&writer);
	CHECK(writer.overflow);
	CHECK(writer.length <= LINE_BYTES_MAX);
}

TEST(reader_cuts_lines_whatever_the_pieces)
{
	const char stream[] = "hello\nmark epoch=1\n\nthaw\n";
	for (size_t piece = 1; piece < sizeof stream; piece++) {
		static struct line_reader reader;
		memset(&reader, 0, sizeof reader);
		char seen[64] = "";
		for (size_t at = 0; at < sizeof stream - 1;) {
			size_t n = line_reader_space(&reader);
			if (n > piece)
				n = piece;
			if (n > sizeof stream - 1 - at)
				n = sizeof stream - 1 - at;
			memcpy(reader.text + reader.length, stream + at, n);
			reader.length += n;
			at += n;
			char *text;
			size_t length;
			int got;
			while ((got = line_reader_next(&reader, &text, &length)) == 1) {
				strncat(seen, text, length);
				strcat(seen, "|");
			}
			CHECK_EQ(got, 0);
		}
		CHECK_STR(seen, "hello|mark epoch=1||thaw|");
	}
}

TEST(reader_refuses_an_endless_line)
{
	static struct line_reader reader;
	char *text;
	size_t length;
	int got = 0;
	for (int i = 0; i < 4 && got == 0; i++) {
		size_t n = line_reader_space(&reader);
		if (n > 2000)
			n = 2000;
		memset(reader.text + reader.length, 'a', n);
		reader.length += n;
		got = line_reader_next(&reader, &text, &length);
	}
	CHECK_EQ(got, -1);
}

/* Hostile bytes: never a read or write out of bounds (the sanitizers watch), and whatever parses is well-formed. */
TEST(fuzz_parser)
{
	static const char alphabet[] = "abz09=  %\n\t_-.\x7f\xff\0K";
	uint64_t state = 0x5eed1;
	for (int round = 0; round < 50000; round++) {
		size_t length = check_random(&state) % 96;
		char *text = malloc(length + 1);
		CHECK(text != NULL);
		for (size_t i = 0; i < length; i++)
			text[i] = alphabet[check_random(&state) % (sizeof alphabet - 1)];
		struct line line;
		int parsed = line_parse(text, length, &line);
		int good = 1;
		if (parsed == 0) {
			char out[128];
			uint64_t n;
			good = line.verb != NULL && *line.verb != 0 && line.pairs <= LINE_PAIRS_MAX;
			for (size_t i = 0; good && i < line.pairs; i++) {
				good = *line.pair[i].key != 0 && strchr(line.pair[i].value, ' ') == NULL &&
				       line_get(&line, line.pair[i].key) == line.pair[i].value;
				line_get_text(&line, line.pair[i].key, out, sizeof out);
				line_get_u64(&line, line.pair[i].key, &n);
			}
		}
		free(text);
		CHECK(good);
	}
}

int main(void)
{
	RUN(parses_verb_and_pairs);
	RUN(refuses_what_is_no_line);
	RUN(numbers_are_exact);
	RUN(percent_coding_goes_both_ways);
	RUN(writer_stays_within_a_line);
	RUN(reader_cuts_lines_whatever_the_pieces);
	RUN(reader_refuses_an_endless_line);
	RUN(fuzz_parser);
	return check_report();
}
