#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/scan.h"
#include "files/records.h"
#include "line/line.h"

#define LINE_MAX_BYTES 16384

/* Decodes a word in place; `%00` and malformed codes are refused. */
static int decode(char *word)
{
	static char decoded[LINE_MAX_BYTES];
	if (line_decode(word, decoded, sizeof decoded) != 0)
		return -1;
	strcpy(word, decoded); /* never longer than its code */
	return 0;
}

static int parse_line(char *text, struct files_root *root, char **store)
{
	char *save = NULL, *kind = strtok_r(text, " \t\n", &save), *path = strtok_r(NULL, " \t\n", &save),
	     *name = strtok_r(NULL, " \t\n", &save);
	if (kind == NULL || kind[0] == '#')
		return 0;
	if (path == NULL || name == NULL || strtok_r(NULL, " \t\n", &save) != NULL || decode(path) != 0 || decode(name) != 0)
		return -1;
	if (strcmp(kind, "upper") != 0 && strcmp(kind, "tree") != 0)
		return -1;
	root->kind = kind[0] == 'u' ? FILES_UPPER : FILES_TREE;
	root->path = strcpy(*store, path);
	*store += strlen(path) + 1;
	root->name = strcpy(*store, name);
	*store += strlen(name) + 1;
	return 1;
}

int files_roots_read(const char *path, struct files_root **out, size_t *count, int *line_number)
{
	char line[LINE_MAX_BYTES];
	FILE *file = fopen(path, "re");
	*out = NULL;
	*count = 0;
	*line_number = 0;
	if (file == NULL)
		return -1;
	struct files_root *roots = malloc(FILES_ROOTS_MAX * (sizeof *roots + LINE_MAX_BYTES));
	char *store = roots ? (char *)(roots + FILES_ROOTS_MAX) : NULL;
	int result = roots ? 0 : -1;
	while (result == 0 && fgets(line, sizeof line, file) != NULL) {
		struct files_root root;
		++*line_number;
		int got = strchr(line, '\n') == NULL && !feof(file) ? -1 : parse_line(line, &root, &store);
		if (got < 0 || (got == 1 && *count == FILES_ROOTS_MAX)) {
			errno = EINVAL;
			result = -1;
		} else if (got == 1) {
			roots[(*count)++] = root;
		}
	}
	if (result == 0 && ferror(file))
		result = -1;
	int error = errno;
	fclose(file);
	if (result != 0)
		free(roots);
	else
		*out = roots;
	errno = error;
	return result;
}
