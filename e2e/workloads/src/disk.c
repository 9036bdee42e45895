/*
 * Append-only writer: what it has acknowledged is on disk. `append <text>` writes one record, syncs, and answers
 * `ok <number> <offset>`; `read <number>` answers `ok <number> <text>` from the file; `count` answers `ok <records>`;
 * `verify` reads the whole file and answers `ok <records>` or `fail …`. The number of records is kept in memory and
 * must always agree with the file. Usage: ft-disk PORT FILE.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_BYTES = 128, NUMBER_DIGITS = 12, TEXT_BYTES_MAX = RECORD_BYTES - NUMBER_DIGITS - 2 };

static int file;
static uint64_t records;

static off_t offset_of(uint64_t number)
{
	return (off_t)((number - 1) * RECORD_BYTES);
}

/* `<number> <text padded with spaces>\n` */
static void format_record(char *record, uint64_t number, const char *text)
{
	int n = snprintf(record, RECORD_BYTES, "%0*llu %-*s", NUMBER_DIGITS, (unsigned long long)number,
			 TEXT_BYTES_MAX, text);
	if (n != RECORD_BYTES - 1) die("a record of the wrong length");
	record[RECORD_BYTES - 1] = '\n';
}

static int read_record(char *record, uint64_t number)
{
	return pread(file, record, RECORD_BYTES, offset_of(number)) == RECORD_BYTES &&
	       record[RECORD_BYTES - 1] == '\n' && strtoull(record, NULL, 10) == number;
}

static int size_agrees(void)
{
	struct stat status;
	if (fstat(file, &status) < 0) die("fstat");
	return status.st_size == (off_t)(records * RECORD_BYTES);
}

static size_t append(const char *text, char *reply, size_t reply_bytes_max)
{
	char record[RECORD_BYTES];
	if (strlen(text) > TEXT_BYTES_MAX) return reply_text(reply, reply_bytes_max, "fail too-long");
	if (!size_agrees()) return reply_text(reply, reply_bytes_max, "fail memory-and-file-disagree");
	format_record(record, records + 1, text);
	if (pwrite(file, record, sizeof record, offset_of(records + 1)) != (ssize_t)sizeof record ||
	    fsync(file) < 0) {
		int error = errno;
		/* A record that is only half there must not be in the way of the next. */
		if (ftruncate(file, (off_t)(records * RECORD_BYTES)) < 0) die("ftruncate");
		return reply_text(reply, reply_bytes_max, "fail write errno=%d", error);
	}
	records++;
	return reply_text(reply, reply_bytes_max, "ok %llu %lld", (unsigned long long)records,
			  (long long)offset_of(records));
}

static size_t read_back(const char *argument, char *reply, size_t reply_bytes_max)
{
	char record[RECORD_BYTES + 1];
	uint64_t number = strtoull(argument, NULL, 10);
	if (number == 0 || number > records) return reply_text(reply, reply_bytes_max, "fail no-such-record");
	if (!read_record(record, number)) return reply_text(reply, reply_bytes_max, "fail damaged-record");
	size_t end = RECORD_BYTES - 1;
	while (end > NUMBER_DIGITS + 1 && record[end - 1] == ' ') end--;
	record[end] = '\0';
	return reply_text(reply, reply_bytes_max, "ok %llu %s", (unsigned long long)number,
			  record + NUMBER_DIGITS + 1);
}

static size_t verify(char *reply, size_t reply_bytes_max)
{
	char record[RECORD_BYTES];
	if (!size_agrees()) return reply_text(reply, reply_bytes_max, "fail memory-and-file-disagree");
	for (uint64_t number = 1; number <= records; number++) {
		if (!read_record(record, number))
			return reply_text(reply, reply_bytes_max, "fail damaged-record %llu",
					  (unsigned long long)number);
	}
	return reply_text(reply, reply_bytes_max, "ok %llu", (unsigned long long)records);
}

static size_t answer(struct connection *connection, char *line, char *reply, size_t reply_bytes_max)
{
	connection->received++;
	if (strncmp(line, "append ", 7) == 0) return append(line + 7, reply, reply_bytes_max);
	if (strncmp(line, "read ", 5) == 0) return read_back(line + 5, reply, reply_bytes_max);
	if (strcmp(line, "verify") == 0) return verify(reply, reply_bytes_max);
	if (strcmp(line, "count") == 0)
		return reply_text(reply, reply_bytes_max, "ok %llu", (unsigned long long)records);
	return reply_text(reply, reply_bytes_max, "fail usage");
}

static void open_file(const char *path)
{
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (file < 0) die(path);
	struct stat status;
	if (fstat(file, &status) < 0) die("fstat");
	records = (uint64_t)status.st_size / RECORD_BYTES;
	/* A record cut off by a crash was never acknowledged. */
	if (ftruncate(file, (off_t)(records * RECORD_BYTES)) < 0) die("ftruncate");
}

int main(int argc, char **argv)
{
	uint16_t port = port_argument(argc, argv);
	if (argc != 3) {
		fprintf(stderr, "usage: %s PORT FILE\n", argv[0]);
		return 2;
	}
	open_file(argv[2]);
	serve(port, answer);
}
