/* The files that the tasks have open for writing or mapped, as inodes of the roots. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/index.h"

static int used_add(struct files_index *index, const struct root *root, uint64_t ino, int mapped)
{
	if (index->used_count == index->used_room) {
		size_t room = index->used_room ? index->used_room * 2 : 256;
		struct used *grown = realloc(index->used, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		index->used = grown;
		index->used_room = room;
	}
	index->used[index->used_count++] = (struct used){root, ino, mapped};
	return 0;
}

/* The root that a path in the container is in, and the rest of the path. */
static const struct root *root_of(const struct files_index *index, const char *path, const char **rest)
{
	const struct root *best = NULL;
	size_t most = 0;
	for (size_t i = 0; i < index->roots; i++) {
		const char *name = index->root[i].name;
		size_t bytes = name[1] == 0 ? 0 : strlen(name);
		if (strncmp(path, name, bytes) != 0 || path[bytes] != '/' || (best != NULL && bytes < most))
			continue;
		best = &index->root[i];
		most = bytes;
	}
	*rest = path + most + 1;
	return best;
}

static int resolve(struct files_index *index, const struct files_use *use)
{
	const char *rest;
	struct stat st;
	const struct root *root = use->path != NULL && use->path[0] == '/' ? root_of(index, use->path, &rest) : NULL;
	int fd = root == NULL ? -1 : open_below(root, rest, O_PATH), result = 0;
	if (fd < 0)
		return 0; /* removed, or not of the files: what is known by its number is found by it */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino != use->ino)
		result = used_add(index, root, st.st_ino, use->mapped);
	close(fd);
	return result;
}

int used_resolve(struct files_index *index, const struct files_scan_options *options)
{
	index->used_count = 0;
	for (size_t i = 0; i < options->used_count; i++)
		if (used_add(index, NULL, options->used[i].ino, options->used[i].mapped) != 0 ||
		    resolve(index, &options->used[i]) != 0)
			return -1;
	return 0;
}

int is_mapped(const struct files_index *index, const struct root *root, uint64_t ino)
{
	for (size_t i = 0; i < index->used_count; i++)
		if (index->used[i].mapped && index->used[i].ino == ino && (index->used[i].root == NULL || index->used[i].root == root))
			return 1;
	return 0;
}
