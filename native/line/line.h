/*
 * The line protocol that every native program speaks: `<verb> key=value key=value…\n`, at most 4096 bytes a
 * line with its newline, no spaces in values. Values that may hold anything (paths, texts) are percent-coded.
 * Nothing here allocates: a parsed line points into the caller's buffer.
 */
#ifndef FT_LINE_LINE_H
#define FT_LINE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_BYTES_MAX 4096 /* with the newline */
#define LINE_PAIRS_MAX 32
#define LINE_PROTOCOL 1

struct line_pair {
	const char *key;
	const char *value; /* as on the wire, still percent-coded */
};

struct line {
	const char *verb;
	size_t pairs;
	struct line_pair pair[LINE_PAIRS_MAX];
};

/*
 * Parses one line of `length` bytes without its newline, in place: `text[length]` must be writable.
 * Returns 0, or -1 when it is no line of the protocol (empty, control characters, a key without '=',
 * a repeated key, an empty key, too many pairs, invalid verb or key characters).
 */
int line_parse(char *text, size_t length, struct line *out);

/* The raw value of `key`, or NULL. */
const char *line_get(const struct line *line, const char *key);
/* The value as a decimal number; -1 when missing, not a number, or out of range. */
int line_get_u64(const struct line *line, const char *key, uint64_t *out);
/* As above, `missing` when the key is not there. -1 only for a value that is not a number. */
int line_get_u64_or(const struct line *line, const char *key, uint64_t missing, uint64_t *out);
/* The value percent-decoded into `out`, with a final NUL. -1 when missing, malformed, too long or with a NUL inside. */
int line_get_text(const struct line *line, const char *key, char *out, size_t size);

/* A decimal number and nothing else. */
int line_parse_u64(const char *text, uint64_t *out);

/* Percent-codes spaces, '%', control and non-ASCII bytes. Cuts what does not fit, never in the middle of a code. */
size_t line_encode(const char *text, char *out, size_t size);
int line_decode(const char *text, char *out, size_t size);

/* Builds one line. Anything that does not fit sets `overflow` and leaves the line shorter but whole. */
struct line_writer {
	size_t length;
	bool overflow;
	char text[LINE_BYTES_MAX];
};

void line_begin(struct line_writer *writer, const char *head); /* "ok", "event held", "mark" */
void line_u64(struct line_writer *writer, const char *key, uint64_t value);
void line_i64(struct line_writer *writer, const char *key, int64_t value);
void line_raw(struct line_writer *writer, const char *key, const char *value); /* must hold no space */
void line_text(struct line_writer *writer, const char *key, const char *value); /* percent-coded */
/* Adds the newline; the line is writer->text, writer->length bytes. */
void line_end(struct line_writer *writer);

/* `fail code=… errno=… detail=…` whole, with its newline. */
void line_fail(struct line_writer *writer, const char *code, int error, const char *detail);

/*
 * Cuts lines out of a byte stream. Fill `text + length` with at most line_reader_space() bytes, add them to
 * `length`, then call line_reader_next() until it returns 0. -1: a line longer than LINE_BYTES_MAX; the
 * stream cannot be trusted any more. A returned line is valid until the next call.
 */
struct line_reader {
	size_t length;
	size_t start;
	char text[2 * LINE_BYTES_MAX];
};

size_t line_reader_space(struct line_reader *reader); /* makes room; 0 never, unless -1 was returned before */
int line_reader_next(struct line_reader *reader, char **text, size_t *length);

#endif
