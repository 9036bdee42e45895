#include "line/line.h"

#include <stdio.h>
#include <string.h>

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
	       c == '.';
}

/* Ends a run of name characters; NULL when there is none. */
static char *skip_name(char *at)
{
	char *start = at;
	while (is_name(*at))
		at++;
	return at == start ? NULL : at;
}

int line_parse(char *text, size_t length, struct line *out)
{
	memset(out, 0, sizeof *out);
	if (length == 0 || length >= LINE_BYTES_MAX)
		return -1;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return -1;
	text[length] = 0;

	char *at = skip_name(text);
	if (at == NULL)
		return -1;
	out->verb = text;
	while (*at != 0) {
		if (*at != ' ')
			return -1;
		*at++ = 0;
		while (*at == ' ')
			at++;
		if (*at == 0)
			break;
		if (out->pairs == LINE_PAIRS_MAX)
			return -1;
		char *key = at;
		at = skip_name(at);
		if (at == NULL || *at != '=')
			return -1;
		*at++ = 0;
		if (line_get(out, key) != NULL)
			return -1;
		out->pair[out->pairs].key = key;
		out->pair[out->pairs].value = at;
		out->pairs++;
		while (*at != 0 && *at != ' ')
			at++;
	}
	return 0;
}

const char *line_get(const struct line *line, const char *key)
{
	for (size_t i = 0; i < line->pairs; i++)
		if (strcmp(line->pair[i].key, key) == 0)
			return line->pair[i].value;
	return NULL;
}

int line_parse_u64(const char *text, uint64_t *out)
{
	uint64_t value = 0;
	if (*text == 0)
		return -1;
	for (; *text != 0; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		unsigned digit = (unsigned)(*text - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return -1;
		value = value * 10 + digit;
	}
	*out = value;
	return 0;
}

int line_get_u64(const struct line *line, const char *key, uint64_t *out)
{
	const char *value = line_get(line, key);
	return value == NULL ? -1 : line_parse_u64(value, out);
}

int line_get_u64_or(const struct line *line, const char *key, uint64_t missing, uint64_t *out)
{
	const char *value = line_get(line, key);
	if (value == NULL) {
		*out = missing;
		return 0;
	}
	return line_parse_u64(value, out);
}

int line_get_text(const struct line *line, const char *key, char *out, size_t size)
{
	const char *value = line_get(line, key);
	return value == NULL ? -1 : line_decode(value, out, size);
}

static const char hex[] = "0123456789ABCDEF";

size_t line_encode(const char *text, char *out, size_t size)
{
	size_t length = 0;
	if (size == 0)
		return 0;
	for (; *text != 0; text++) {
		unsigned char c = (unsigned char)*text;
		bool plain = c > 0x20 && c < 0x7f && c != '%';
		if (length + (plain ? 1 : 3) >= size)
			break;
		if (plain) {
			out[length++] = (char)c;
		} else {
			out[length++] = '%';
			out[length++] = hex[c >> 4];
			out[length++] = hex[c & 15];
		}
	}
	out[length] = 0;
	return length;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int line_decode(const char *text, char *out, size_t size)
{
	size_t length = 0;
	for (; *text != 0; text++) {
		int c = (unsigned char)*text;
		if (c == '%') {
			int high = hex_digit(text[1]);
			int low = high < 0 ? -1 : hex_digit(text[2]);
			if (low < 0)
				return -1;
			c = high << 4 | low;
			if (c == 0)
				return -1;
			text += 2;
		}
		if (length + 1 >= size)
			return -1;
		out[length++] = (char)c;
	}
	if (size == 0)
		return -1;
	out[length] = 0;
	return 0;
}

/* One byte is kept for the newline, one for the NUL that makes the text printable. */
static void append(struct line_writer *writer, const char *key, const char *value)
{
	size_t key_length = strlen(key), value_length = strlen(value);
	if (writer->length + key_length + value_length + 4 > sizeof writer->text) {
		writer->overflow = true;
		return;
	}
	char *at = writer->text + writer->length;
	*at++ = ' ';
	memcpy(at, key, key_length);
	at += key_length;
	*at++ = '=';
	memcpy(at, value, value_length + 1);
	writer->length += key_length + value_length + 2;
}

void line_begin(struct line_writer *writer, const char *head)
{
	size_t length = strlen(head);
	writer->overflow = length + 2 > sizeof writer->text;
	writer->length = writer->overflow ? 0 : length;
	memcpy(writer->text, head, writer->length);
	writer->text[writer->length] = 0;
}

void line_u64(struct line_writer *writer, const char *key, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	append(writer, key, text);
}

void line_i64(struct line_writer *writer, const char *key, int64_t value)
{
	char text[24];
	snprintf(text, sizeof text, "%lld", (long long)value);
	append(writer, key, text);
}

void line_raw(struct line_writer *writer, const char *key, const char *value)
{
	append(writer, key, value);
}

void line_text(struct line_writer *writer, const char *key, const char *value)
{
	char coded[LINE_BYTES_MAX];
	size_t used = writer->length + strlen(key) + 4;
	if (used >= sizeof coded) {
		writer->overflow = true;
		return;
	}
	line_encode(value, coded, sizeof coded - used);
	append(writer, key, coded);
}

void line_end(struct line_writer *writer)
{
	writer->text[writer->length++] = '\n';
}

void line_fail(struct line_writer *writer, const char *code, int error, const char *detail)
{
	line_begin(writer, "fail");
	line_raw(writer, "code", code);
	line_i64(writer, "errno", error);
	line_text(writer, "detail", detail);
	line_end(writer);
}

size_t line_reader_space(struct line_reader *reader)
{
	if (reader->start > 0) {
		memmove(reader->text, reader->text + reader->start, reader->length - reader->start);
		reader->length -= reader->start;
		reader->start = 0;
	}
	/* One byte stays free so that a line at the very end can be NUL-terminated in place. */
	return sizeof reader->text - 1 - reader->length;
}

int line_reader_next(struct line_reader *reader, char **text, size_t *length)
{
	char *from = reader->text + reader->start;
	size_t available = reader->length - reader->start;
	char *newline = memchr(from, '\n', available);
	size_t line_length = newline == NULL ? available : (size_t)(newline - from);
	if (line_length >= LINE_BYTES_MAX)
		return -1;
	if (newline == NULL)
		return 0;
	reader->start += line_length + 1;
	*text = from;
	*length = line_length;
	return 1;
}
