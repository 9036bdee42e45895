#include "files/index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int note_add(struct files_index *index, struct note note)
{
	if (index->notes == index->note_room) {
		size_t room = index->note_room ? index->note_room * 2 : 1024;
		struct note *grown = realloc(index->note, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		index->note = grown;
		index->note_room = room;
	}
	index->note[index->notes++] = note;
	if (note.inode != NULL)
		note.inode->notes++;
	return 0;
}

int list_add(struct list *list, struct node *node)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 256;
		struct node **grown = realloc(list->node, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		list->node = grown;
		list->room = room;
	}
	list->node[list->count++] = node;
	return 0;
}

struct node *node_new(struct node *parent, const char *name)
{
	size_t bytes = strlen(name);
	assert(bytes <= FILES_NAME_BYTES_MAX);
	struct node *node = calloc(1, sizeof *node + bytes + 1);
	if (node == NULL)
		return NULL;
	node->parent = parent;
	node->name_bytes = (uint16_t)bytes;
	memcpy(node->name, name, bytes + 1);
	return node;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct node *const *)a)->name, (*(struct node *const *)b)->name);
}

void node_sort(struct node *node)
{
	if (node->unsorted && node->children > 1)
		qsort(node->child, node->children, sizeof *node->child, by_name);
	node->unsorted = 0;
}

static int child_append(struct node *parent, struct node *child)
{
	if (parent->children == parent->room) {
		uint32_t room = parent->room ? parent->room * 2 : 8;
		struct node **grown = realloc(parent->child, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		parent->child = grown;
		parent->room = room;
	}
	parent->child[parent->children++] = child;
	parent->unsorted = 1;
	return 0;
}

static void child_remove(struct node *parent, struct node *child)
{
	for (uint32_t i = parent->children; i-- > 0;)
		if (parent->child[i] == child) {
			memmove(&parent->child[i], &parent->child[i + 1], (parent->children - i - 1) * sizeof *parent->child);
			parent->children--;
			return;
		}
	assert(!"a child that its parent does not know");
}

int node_add(struct files_index *index, struct node *parent, struct node *child)
{
	if (child_append(parent, child) != 0)
		return -1;
	if (note_add(index, (struct note){.kind = NOTE_ADDED, .node = child}) != 0) {
		child_remove(parent, child);
		return -1;
	}
	return 0;
}

int node_insert(struct files_index *index, struct node *parent, struct node *child)
{
	node_sort(parent);
	if (node_add(index, parent, child) != 0)
		return -1;
	uint32_t at = parent->children - 1;
	while (at > 0 && strcmp(parent->child[at - 1]->name, child->name) > 0) {
		parent->child[at] = parent->child[at - 1];
		at--;
	}
	parent->child[at] = child;
	parent->unsorted = 0;
	return 0;
}

struct node *node_child(const struct node *parent, const char *name)
{
	uint32_t low = 0, high = parent->children;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = strcmp(parent->child[middle]->name, name);
		if (order == 0)
			return parent->child[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

int node_drop_unseen(struct files_index *index, struct root *root, struct node *dir)
{
	uint32_t kept = 0;
	int result = 0;
	for (uint32_t i = 0; i < dir->children; i++) {
		struct node *child = dir->child[i];
		int drop = child->seen != index->scan && result == 0;
		if (drop && note_add(index, (struct note){.kind = NOTE_REMOVED, .node = child}) == 0) {
			child->dropped_scan = index->scan;
			if (list_add(&root->gone, child) != 0)
				result = -1;
			continue;
		}
		result = drop ? -1 : result;
		dir->child[kept++] = child;
	}
	dir->children = kept;
	return result;
}

int node_drop(struct files_index *index, struct root *root, struct node *child)
{
	if (note_add(index, (struct note){.kind = NOTE_REMOVED, .node = child}) != 0)
		return -1;
	child_remove(child->parent, child);
	child->dropped_scan = index->scan;
	return list_add(&root->gone, child);
}

int node_is_dropped(const struct files_index *index, const struct node *node)
{
	for (; node != NULL; node = node->parent)
		if (node->dropped_scan == index->scan)
			return 1;
	return 0;
}

int node_path(const struct node *node, char *out)
{
	size_t bytes = 0;
	for (const struct node *n = node; n->parent != NULL; n = n->parent)
		bytes += n->name_bytes + (n->parent->parent != NULL ? 1u : 0u);
	if (bytes >= EPOCH_PATH_BYTES_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	out[bytes] = 0;
	for (const struct node *n = node; n->parent != NULL; n = n->parent) {
		bytes -= n->name_bytes;
		memcpy(out + bytes, n->name, n->name_bytes);
		if (n->parent->parent != NULL)
			out[--bytes] = '/';
	}
	return 0;
}

static size_t slot_of(const struct root *root, uint64_t dev, uint64_t ino)
{
	uint64_t mixed = (ino ^ (dev << 40)) * 0x9e3779b97f4a7c15ull;
	return (size_t)(mixed >> 20) & (root->slots - 1);
}

struct inode *inode_find(const struct root *root, uint64_t dev, uint64_t ino)
{
	if (root->slots == 0)
		return NULL;
	for (struct inode *at = root->slot[slot_of(root, dev, ino)]; at != NULL; at = at->next)
		if (at->meta.ino == ino && at->meta.dev == dev)
			return at;
	return NULL;
}

struct inode *inode_find_next(const struct inode *inode)
{
	for (struct inode *at = inode->next; at != NULL; at = at->next)
		if (at->meta.ino == inode->meta.ino && at->meta.dev == inode->meta.dev)
			return at;
	return NULL;
}

/* FNV-1a. */
static size_t id_slot_of(const struct root *root, const struct file_id *id)
{
	uint64_t hash = 0xcbf29ce484222325ull ^ (uint32_t)id->type;
	for (uint32_t i = 0; i < id->bytes; i++)
		hash = (hash ^ id->handle[i]) * 0x100000001b3ull;
	return (size_t)(hash ^ (hash >> 29)) & (root->slots - 1);
}

static int same_id(const struct file_id *a, const struct file_id *b)
{
	return a->type == b->type && a->bytes == b->bytes && memcmp(a->handle, b->handle, a->bytes) == 0;
}

struct inode *inode_find_id(const struct root *root, const struct file_id *id)
{
	if (root->slots == 0)
		return NULL;
	for (struct inode *at = root->id_slot[id_slot_of(root, id)]; at != NULL; at = at->next_id)
		if (same_id(&at->id, id))
			return at;
	return NULL;
}

static void id_put(struct root *root, struct inode *inode)
{
	struct inode **slot = &root->id_slot[id_slot_of(root, &inode->id)];
	inode->next_id = *slot;
	*slot = inode;
}

static void id_forget(struct inode *inode)
{
	if (inode->id.bytes == 0)
		return;
	struct inode **at = &inode->root->id_slot[id_slot_of(inode->root, &inode->id)];
	while (*at != inode)
		at = &(*at)->next_id;
	*at = inode->next_id;
	inode->id.bytes = 0;
	inode->root->unlearnt++;
}

struct file_id file_id_at(const struct root *root, int fd, const char *name)
{
	struct {
		struct file_handle head;
		uint8_t room[FILE_ID_BYTES_MAX];
	} got = {.head.handle_bytes = FILE_ID_BYTES_MAX};
	struct file_id id = {0};
	int mount;
	if (root->unwatched == NULL && name_to_handle_at(fd, name, &got.head, &mount, AT_EMPTY_PATH) == 0) {
		id.type = got.head.handle_type;
		id.bytes = got.head.handle_bytes;
		memcpy(id.handle, got.head.f_handle, id.bytes);
	}
	return id;
}

struct file_id file_id_of(const struct root *root, int fd)
{
	return file_id_at(root, fd, "");
}

int inode_is(const struct inode *inode, const struct file_id *id)
{
	return id->bytes > 0 && same_id(id, &inode->id);
}

void inode_learn(struct inode *inode, const struct file_id *id)
{
	if (id->bytes == inode->id.bytes && same_id(id, &inode->id))
		return;
	id_forget(inode);
	if (id->bytes == 0)
		return;
	inode->id = *id;
	inode->root->unlearnt--;
	id_put(inode->root, inode);
}

void inode_set_merged(struct inode *inode)
{
	struct root *root = inode->root;
	if (inode->merged_back != NULL)
		return;
	inode->next_merged = root->merged;
	inode->merged_back = &root->merged;
	if (root->merged != NULL)
		root->merged->merged_back = &inode->next_merged;
	root->merged = inode;
}

static void merged_forget(struct inode *inode)
{
	if (inode->merged_back == NULL)
		return;
	*inode->merged_back = inode->next_merged;
	if (inode->next_merged != NULL)
		inode->next_merged->merged_back = inode->merged_back;
}

static int table_grow(struct root *root)
{
	size_t before = root->slots, slots = before ? before * 2 : 1024;
	struct inode **old = root->slot, **grown = calloc(slots, sizeof *grown), **ids = calloc(slots, sizeof *ids);
	if (grown == NULL || ids == NULL) {
		free(grown);
		free(ids);
		return -1;
	}
	free(root->id_slot);
	root->slot = grown;
	root->id_slot = ids;
	root->slots = slots;
	for (size_t i = 0; i < before; i++)
		for (struct inode *at = old[i], *next; at != NULL; at = next) {
			size_t slot = slot_of(root, at->meta.dev, at->meta.ino);
			next = at->next;
			at->next = grown[slot];
			grown[slot] = at;
			if (at->id.bytes != 0)
				id_put(root, at);
		}
	free(old);
	return 0;
}

struct inode *inode_new(struct root *root, uint64_t dev, uint64_t ino)
{
	if (root->inodes >= root->slots && table_grow(root) != 0)
		return NULL;
	struct inode *inode = calloc(1, sizeof *inode);
	if (inode == NULL)
		return NULL;
	size_t slot = slot_of(root, dev, ino);
	inode->root = root;
	inode->meta.dev = dev;
	inode->meta.ino = ino;
	inode->next = root->slot[slot];
	root->slot[slot] = inode;
	root->inodes++;
	root->unlearnt++;
	return inode;
}

static void inode_release(struct inode *inode)
{
	if (inode == NULL || inode->nodes != NULL || inode->notes > 0)
		return;
	struct root *root = inode->root;
	struct inode **at = &root->slot[slot_of(root, inode->meta.dev, inode->meta.ino)];
	while (*at != inode)
		at = &(*at)->next;
	*at = inode->next;
	id_forget(inode);
	merged_forget(inode);
	root->inodes--;
	root->unlearnt--;
	free(inode->hash);
	free(inode);
}

static void node_unlink_inode(struct node *node)
{
	if (node->inode == NULL)
		return;
	*node->same_inode_back = node->same_inode;
	if (node->same_inode != NULL)
		node->same_inode->same_inode_back = node->same_inode_back;
	node->inode = NULL;
}

static void node_link_inode(struct node *node, struct inode *inode)
{
	node->inode = inode;
	if (inode == NULL)
		return;
	node->same_inode = inode->nodes;
	node->same_inode_back = &inode->nodes;
	if (inode->nodes != NULL)
		inode->nodes->same_inode_back = &node->same_inode;
	inode->nodes = node;
}

int node_set_inode(struct files_index *index, struct node *node, struct inode *inode)
{
	struct inode *before = node->inode;
	if (before == inode)
		return 0;
	if (note_add(index, (struct note){.kind = NOTE_INODE, .node = node, .inode = before}) != 0) {
		inode_release(inode);
		return -1;
	}
	node_unlink_inode(node);
	node_link_inode(node, inode);
	return 0;
}

int inode_set_meta(struct files_index *index, struct inode *inode, const struct inode_meta *meta)
{
	struct inode_meta *saved = malloc(sizeof *saved);
	if (saved == NULL)
		return -1;
	*saved = inode->meta;
	if (note_add(index, (struct note){.kind = NOTE_META, .inode = inode, .u.meta = saved}) != 0) {
		free(saved);
		return -1;
	}
	assert(meta->dev == inode->meta.dev && meta->ino == inode->meta.ino);
	inode->meta = *meta;
	return 0;
}

int inode_reserve(struct inode *inode, uint64_t blocks)
{
	if (blocks <= inode->hash_room)
		return 0;
	uint64_t room = blocks + blocks / 4 + 4;
	struct block_hash *grown = realloc(inode->hash, room * sizeof *grown);
	if (grown == NULL)
		return -1;
	memset(grown + inode->hash_room, 0, (room - inode->hash_room) * sizeof *grown);
	inode->hash = grown;
	inode->hash_room = room;
	return 0;
}

int inode_set_hash(struct files_index *index, struct inode *inode, uint64_t block, struct block_hash hash)
{
	assert(block < inode->hash_room);
	/* What lies beyond the valid blocks need not come back. */
	if (block < inode->meta.blocks) {
		struct note note = {.kind = NOTE_HASH, .inode = inode, .u.was = {block, inode->hash[block]}};
		if (note_add(index, note) != 0)
			return -1;
	}
	inode->hash[block] = hash;
	return 0;
}

void node_free_tree(struct node *node)
{
	for (uint32_t i = 0; i < node->children; i++)
		node_free_tree(node->child[i]);
	struct inode *inode = node->inode;
	node_unlink_inode(node);
	inode_release(inode);
	free(node->child);
	free(node);
}

void node_restore(struct node *node)
{
	if (node->inode != NULL) {
		node->dev = node->inode->meta.dev;
		node->ino = node->inode->meta.ino;
		node->rdev = node->inode->meta.rdev;
		node->mode = node->inode->meta.mode;
	}
	for (uint32_t i = 0; i < node->children; i++)
		node_restore(node->child[i]);
}

void undo_forget(struct files_index *index)
{
	for (size_t i = 0; i < index->notes; i++) {
		struct note *note = &index->note[i];
		if (note->kind == NOTE_META)
			free(note->u.meta);
		if (note->inode != NULL) {
			note->inode->notes--;
			inode_release(note->inode);
		}
	}
	for (size_t i = 0; i < index->notes; i++)
		if (index->note[i].kind == NOTE_REMOVED)
			node_free_tree(index->note[i].node);
	index->notes = 0;
}

static void undo_one(struct note *note)
{
	struct node *node = note->node;
	struct inode *after;
	switch (note->kind) {
	case NOTE_ADDED:
		child_remove(node->parent, node);
		node_free_tree(node);
		break;
	case NOTE_REMOVED:
		/* Its place in the array is still there: what was added meanwhile is out again, and arrays never shrink. */
		if (child_append(node->parent, node) != 0)
			abort();
		break;
	case NOTE_INODE:
		after = node->inode;
		node_unlink_inode(node);
		node_link_inode(node, note->inode);
		inode_release(after);
		break;
	case NOTE_META:
		note->inode->meta = *note->u.meta;
		free(note->u.meta);
		break;
	case NOTE_HASH:
		note->inode->hash[note->u.was.block] = note->u.was.hash;
		break;
	}
}

void undo_to(struct files_index *index, size_t notes)
{
	for (size_t i = index->notes; i-- > notes;) {
		if (index->note[i].inode != NULL)
			index->note[i].inode->notes--;
		undo_one(&index->note[i]);
	}
	index->notes = notes;
}

void undo_all(struct files_index *index)
{
	undo_to(index, 0);
}

int index_fail(struct files_index *index, const struct root *root, const char *path, const char *what)
{
	int error = errno;
	snprintf(index->error, sizeof index->error, "%s%s%s: %s", root->name, root->name[1] == 0 ? "" : "/", path, what);
	errno = error;
	return -1;
}
