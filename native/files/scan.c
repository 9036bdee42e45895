#include "files/scan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "files/index.h"

#define ENTRIES_MAX_DEFAULT 4000000u
#define BYTES_MAX_DEFAULT (4ull << 30)

/* Absolute, no empty, "." or ".." component, no slash at the end but for "/" itself. */
static int is_normalised(const char *path)
{
	size_t length = strlen(path);
	if (path[0] != '/' || length >= EPOCH_PATH_BYTES_MAX)
		return 0;
	if (length == 1)
		return 1;
	for (const char *at = path; *at == '/';) {
		size_t bytes = strcspn(++at, "/");
		if (bytes == 0 || (bytes == 1 && at[0] == '.') || (bytes == 2 && at[0] == '.' && at[1] == '.'))
			return 0;
		at += bytes;
	}
	return 1;
}

static int open_root(struct files_index *index, const struct files_root *from)
{
	struct root *root = &index->root[index->roots];
	struct stat st;
	struct statfs fs;
	if ((from->kind != FILES_UPPER && from->kind != FILES_TREE) || !is_normalised(from->name)) {
		errno = EINVAL;
		return -1;
	}
	root->kind = from->kind;
	root->fd = open(from->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root->fd < 0)
		return -1;
	index->roots++; /* from here on files_close() takes care */
	root->name = strdup(from->name);
	root->top = node_new(NULL, "");
	if (root->name == NULL || root->top == NULL || fstat(root->fd, &st) != 0 || fstatfs(root->fd, &fs) != 0)
		return -1;
	root->dev = st.st_dev;
	root->unwatched = "it is not watched";
	root->always_compare = (unsigned long)fs.f_type == TMPFS_MAGIC;
	return 0;
}

static int copy_exclude(struct files_index *index, const char *const *exclude, size_t count)
{
	index->exclude = calloc(count ? count : 1, sizeof *index->exclude);
	if (index->exclude == NULL)
		return -1;
	for (; index->excludes < count; index->excludes++)
		if ((index->exclude[index->excludes] = strdup(exclude[index->excludes])) == NULL)
			return -1;
	return 0;
}

static int prepare(struct files_index *index, const struct files_limits *limits)
{
	static const uint8_t zeroes[HASH_BLOCK_BYTES];
	if (limits != NULL)
		index->limits = *limits;
	if (index->limits.entries_max == 0)
		index->limits.entries_max = ENTRIES_MAX_DEFAULT;
	if (index->limits.bytes_max == 0)
		index->limits.bytes_max = BYTES_MAX_DEFAULT;
	index->buffer = malloc(CONTENT_BUFFER_BYTES);
	index->attributes = malloc(ATTRIBUTES_BUFFER_BYTES);
	if (index->buffer == NULL || index->attributes == NULL || hash_key_make(&index->key) != 0)
		return -1;
	memset(index->buffer, 0, CONTENT_BUFFER_BYTES); /* touched before the first freeze */
	index->zero = hash_block(&index->key, zeroes, sizeof zeroes);
	index->scan = 1;
	files_reset(index);
	return index->chain == 0 ? -1 : 0;
}

struct files_index *files_open(const struct files_root *roots, size_t root_count, const char *const *exclude,
                               size_t exclude_count, const struct files_limits *limits, char *e_path)
{
	struct files_index *index = calloc(1, sizeof *index);
	int error;
	if (index == NULL)
		return NULL;
	index->watch = -1;
	if (e_path != NULL)
		e_path[0] = 0;
	if (root_count > FILES_ROOTS_MAX) {
		errno = E2BIG;
		goto failed;
	}
	for (size_t i = 0; i < root_count; i++)
		if (open_root(index, &roots[i]) != 0) {
			error = errno;
			if (e_path != NULL)
				snprintf(e_path, 256, "%s", roots[i].path);
			errno = error;
			goto failed;
		}
	if (copy_exclude(index, exclude, exclude_count) == 0 && prepare(index, limits) == 0)
		return index;
failed:
	error = errno;
	files_close(index);
	errno = error;
	return NULL;
}

/* Objects that a failed scan made and gave no name yet. */
static void purge_table(struct root *root)
{
	for (size_t i = 0; i < root->slots; i++)
		for (struct inode *at = root->slot[i], *next; at != NULL; at = next) {
			assert(at->nodes == NULL);
			next = at->next;
			free(at->hash);
			free(at);
		}
	memset(root->slot, 0, root->slots * sizeof *root->slot);
	memset(root->id_slot, 0, root->slots * sizeof *root->id_slot);
	root->inodes = root->unlearnt = 0;
	root->merged = NULL;
}

static void free_lists(struct root *root)
{
	struct list *all[] = {&root->changed, &root->gone, &root->dirs, &root->opaque,
	                      &root->files, &root->others, &root->links, &root->targets};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]->node);
}

void files_close(struct files_index *index)
{
	if (index == NULL)
		return;
	content_forget_deferred(index);
	undo_forget(index);
	watch_close(index);
	for (size_t i = 0; i < index->roots; i++) {
		struct root *root = &index->root[i];
		if (root->top != NULL)
			node_free_tree(root->top);
		if (root->slot != NULL)
			purge_table(root);
		free_lists(root);
		free(root->slot);
		free(root->id_slot);
		free(root->name);
		close(root->fd);
	}
	for (size_t i = 0; i < index->excludes; i++)
		free(index->exclude[i]);
	free(index->exclude);
	free(index->note);
	free(index->buffer);
	free(index->attributes);
	free(index->used);
	free(index);
}

/* Why this root must be walked, or NULL. */
static const char *why_walk(const struct files_index *index, const struct root *root)
{
	if (root->unwatched != NULL)
		return root->unwatched;
	if (!index->options->frozen)
		return "nothing is frozen";
	if (index->doubt != NULL || index->options->doubt != NULL)
		return index->doubt != NULL ? index->doubt : index->options->doubt;
	return root->unlearnt > 0 ? "a file vanished while it was read" : NULL;
}

static int look_or_walk(struct files_index *index, struct root *root)
{
	const char *why = why_walk(index, root);
	size_t notes = index->notes;
	root->told = why == NULL;
	if (root->told) {
		int result = walk_told(index, root, index->told.slot, index->told.slots);
		if (result <= 0) {
			index->stats->told++;
			return result;
		}
		undo_to(index, notes);
		index->scan++; /* nothing that was seen counts */
		root->told = 0;
		why = "what was found does not fit what was told";
		index->doubt = why;
	}
	index->stats->walked++;
	index->stats->why = index->stats->why == NULL ? why : index->stats->why;
	return walk_root(index, root);
}

static int scan_roots(struct files_index *index)
{
	for (size_t i = 0; i < index->roots; i++)
		if (look_or_walk(index, &index->root[i]) != 0 || plan_root(index, &index->root[i]) != 0)
			return -1;
	for (size_t i = 0; i < index->roots && index->audit && index->options->frozen; i++)
		if (audit_root(index, &index->root[i]) != 0)
			return -1;
	return 0;
}

int files_scan(struct files_index *index, struct epoch_writer *w, const struct files_scan_options *options,
               struct files_scan_stats *stats)
{
	struct files_scan_stats unused;
	index->error[0] = 0;
	if (index->pending) {
		errno = ESTALE;
		return -1;
	}
	index->pending = 1;
	index->scan++;
	clock_gettime(CLOCK_REALTIME_COARSE, &index->scan_start);
	index->w = w;
	index->options = options;
	index->stats = stats ? stats : &unused;
	memset(index->stats, 0, sizeof *index->stats);
	watch_drain(index);
	int result = used_resolve(index, options);
	if (result == 0)
		result = scan_roots(index);
	index->frozen = options->frozen;
	index->failed = result != 0;
	index->w = NULL;
	index->options = NULL;
	index->stats = NULL;
	return result;
}

int files_verify(struct files_index *index)
{
	if (content_verify(index) == 0)
		return 0;
	int error = errno;
	snprintf(index->error, sizeof index->error, "a file that grew was changed before its end, too");
	errno = error;
	return -1;
}

void files_stamp(const struct files_index *index, struct epoch_header *header)
{
	header->files_chain = index->roots ? index->chain : 0;
	header->files_seq = index->roots ? index->seq + 1 : 0;
}

void files_commit(struct files_index *index)
{
	assert(index->pending);
	content_forget_deferred(index);
	undo_forget(index);
	told_clear(&index->told);
	index->pending = 0;
	index->reset = 0;
	index->seq++;
	/* Whatever was in doubt, a frozen scan has seen to it. */
	if (index->frozen)
		index->doubt = NULL;
	else if (index->doubt == NULL)
		index->doubt = "the last scan was of running tasks";
}

void files_rollback(struct files_index *index)
{
	content_forget_deferred(index);
	undo_all(index);
	index->pending = 0;
	for (size_t i = 0; i < index->roots; i++)
		node_restore(index->root[i].top);
	/* What was told since the last commit is still there, and the next scan looks at it again. */
	if (index->failed && index->doubt == NULL)
		index->doubt = "the scan before failed";
}

void files_reset(struct files_index *index)
{
	content_forget_deferred(index);
	undo_forget(index);
	index->pending = 0;
	for (size_t i = 0; i < index->roots; i++) {
		struct root *root = &index->root[i];
		struct node *top = node_new(NULL, "");
		if (top == NULL)
			abort(); /* a few bytes; without them the index would claim what the standby does not have */
		node_free_tree(root->top);
		root->top = top;
		if (root->slot != NULL)
			purge_table(root);
	}
	if (getrandom(&index->chain, sizeof index->chain, 0) != (ssize_t)sizeof index->chain || index->chain == 0)
		index->chain = 1 + index->scan;
	index->seq = 0;
	index->reset = 1;
	told_clear(&index->told);
	index->doubt = "the first epoch";
}

void files_audit(struct files_index *index)
{
	index->audit = 1;
}

const char *files_error(const struct files_index *index)
{
	return index->error;
}
