#include "dump/logs.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk/disk.h"

enum { LOG_READ_BYTES_MAX = 256 * 1024, LOG_FILES_MAX = 1024 };

static void append(char *out, size_t size, const char *line, size_t length)
{
	size_t used = strlen(out);
	if (used + length + 2 > size)
		return;
	if (used > 0)
		out[used++] = '\n';
	memcpy(out + used, line, length);
	out[used + length] = 0;
}

/* What CRIU says on every run where it has less than all capabilities or no TUN device, and goes on. */
static bool is_harmless(const char *line, size_t length)
{
	static const char *const harmless[] = { "Can't setup RLIMIT_NOFILE for self", "tun: Unable to create tun" };
	for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
		if (memmem(line, length, harmless[i], strlen(harmless[i])) != NULL)
			return true;
	return false;
}

void logs_errors(const char *text, size_t length, char *out, size_t size)
{
	if (size == 0)
		return;
	out[0] = 0;
	for (const char *line = text, *end = text + length; line < end;) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		size_t line_length = (size_t)((newline != NULL ? newline : end) - line);
		if (memmem(line, line_length, "Error (", 7) != NULL && !is_harmless(line, line_length))
			append(out, size, line, line_length);
		line += line_length + 1;
	}
}

void logs_quote(int directory, const char *name, char *out, size_t size)
{
	out[0] = 0;
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	char *text = fd < 0 ? NULL : malloc(LOG_READ_BYTES_MAX);
	if (text != NULL) {
		ssize_t got = read(fd, text, LOG_READ_BYTES_MAX);
		if (got > 0)
			logs_errors(text, (size_t)got, out, size);
	}
	free(text);
	if (fd >= 0)
		close(fd);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void prune_kind(int directory, char **names, size_t count, const char *prefix, size_t keep)
{
	size_t of_kind = 0;
	for (size_t i = 0; i < count; i++)
		of_kind += strncmp(names[i], prefix, strlen(prefix)) == 0;
	for (size_t i = 0; i < count && of_kind > keep; i++)
		if (strncmp(names[i], prefix, strlen(prefix)) == 0) {
			(void)unlinkat(directory, names[i], 0); /* tried again after the next dump */
			of_kind--;
		}
}

int logs_prune(int directory, size_t keep)
{
	DIR *listing = disk_list(directory, ".");
	if (listing == NULL)
		return -1;
	static char *names[LOG_FILES_MAX];
	size_t count = 0;
	for (struct dirent *entry; count < LOG_FILES_MAX && (entry = readdir(listing)) != NULL;)
		if (entry->d_name[0] != '.' && (names[count] = strdup(entry->d_name)) != NULL)
			count++;
	closedir(listing);
	qsort(names, count, sizeof *names, by_name);
	prune_kind(directory, names, count, "dump-", keep);
	prune_kind(directory, names, count, "fail-", keep);
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	return 0;
}
