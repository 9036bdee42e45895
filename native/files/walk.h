/* What a walk of everything and a look at what was told have in common. Internal to native/files. */
#ifndef FT_FILES_WALK_H
#define FT_FILES_WALK_H
#include "files/index.h"

struct walk {
	struct files_index *index;
	struct root *root;
	size_t path_bytes; /* of index->path, the directory at hand */
	unsigned depth;
};

int walk_fail(const struct walk *walk, const char *what);
/* Appends a name to the path; the caller cuts it off again with walk_pop(). */
int walk_push(struct walk *walk, const char *name, size_t *before);
void walk_pop(struct walk *walk, size_t before);
/* Whether what is there is what the index has, as far as its times say. */
int walk_is_unchanged(const struct files_index *index, const struct root *root, const struct node *node, const struct stat *st);
/* Looks at one entry and at everything below it. If it is not there any more, its `seen` is not this scan's. */
int walk_visit(struct walk *walk, int dirfd, struct node *node);
/* Empties the lists and looks at the root itself. */
int walk_begin_told(struct files_index *index, struct root *root);
#endif
