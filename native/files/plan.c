/*
 * The second half of a scan: turns what the walk found into operations, in the order that files/records.h promises. The order
 * is what makes each operation find what it needs on the standby, and makes all of them repeatable after a kill.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "files/index.h"

struct plan {
	struct files_index *index;
	struct root *root;
	struct epoch_writer *w;
};

static int path_of(const struct plan *plan, const struct node *node)
{
	return node_path(node, plan->index->path);
}

/* Whether it is there. Where only what was told is looked at, all is that was not found gone. */
static int seen(const struct plan *plan, const struct node *node)
{
	return plan->root->told ? !node_is_dropped(plan->index, node) : node->seen == plan->index->scan;
}

static int out_of_memory(const struct plan *plan)
{
	return index_fail(plan->index, plan->root, plan->index->path, "no memory");
}

/* Entries of this directory change on the standby, so its mtime does: it must be set again at the end. */
static int owe_dirmeta(const struct plan *plan, struct node *dir)
{
	if (dir->dirmeta_scan == plan->index->scan || !seen(plan, dir) || !S_ISDIR(dir->mode))
		return 0;
	dir->dirmeta_scan = plan->index->scan;
	return list_add(&plan->root->dirs, dir);
}

static int stat_below(const struct plan *plan, const char *path, struct stat *st, struct file_id *id)
{
	int fd = open_below(plan->root, path, O_PATH);
	if (fd < 0)
		return -1;
	int result = fstat(fd, st), error = errno;
	*id = file_id_of(plan->root, fd);
	close(fd);
	errno = error;
	return result;
}

static int vanished(const struct plan *plan)
{
	return !plan->index->options->frozen && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
}

/*
 * For what is no regular file. A number that is used again for something else gets an object of its own, which is found first
 * from then on: the old one goes on saying what the standby has under its old names.
 */
static struct inode *inode_for(const struct plan *plan, const struct node *node, int shared)
{
	struct inode *inode = shared ? inode_find(plan->root, node->dev, node->ino) : node->inode;
	if (inode != NULL && inode->meta.dev == node->dev && inode->meta.ino == node->ino &&
	    inode->meta.rdev == node->rdev && ((inode->meta.mode ^ node->mode) & S_IFMT) == 0)
		return inode;
	return inode_new(plan->root, node->dev, node->ino);
}

/* ---- directories ---- */

static int write_dir(const struct plan *plan, struct node *node)
{
	uint8_t meta[FILES_META_BYTES];
	struct inode_meta plain = {.mode = S_IFDIR | 0700};
	if (node->parent == NULL)
		return 0;
	meta_encode(&plain, meta);
	return epoch_record(plan->w, FILES_DIR, meta, sizeof meta, plan->index->path, strlen(plan->index->path));
}

/* Opens, reads the attributes into the index' buffer and the metadata; 1, or 0 if it vanished, or -1. */
static int inspect_dir(const struct plan *plan, struct attributes *attributes, struct inode_meta *meta, struct file_id *id)
{
	struct stat st;
	const char *path = plan->index->path;
	int fd = open_below(plan->root, path, O_RDONLY | O_DIRECTORY | O_NOATIME);
	if (fd < 0)
		return vanished(plan) ? 0 : index_fail(plan->index, plan->root, path, "cannot be opened");
	int result = fstat(fd, &st) == 0 ? attributes_read(plan->index, plan->root, fd, path, attributes) : -1;
	int error = errno;
	*id = file_id_of(plan->root, fd);
	close(fd);
	errno = error;
	if (result != 0)
		return -1;
	meta_of(plan->index, &st, meta);
	meta->attributes = attributes->hash;
	meta->opaque = (uint8_t)attributes->opaque;
	return 1;
}

/* Parents are planned before what is in them. */
static int is_merged(const struct plan *plan, const struct node *node, const struct inode_meta *meta)
{
	if (plan->root->kind != FILES_UPPER || meta->opaque)
		return 0;
	return node->parent == NULL || (node->parent->inode != NULL && node->parent->inode->merged_back != NULL);
}

static int plan_dir(const struct plan *plan, struct node *node)
{
	struct attributes attributes;
	struct inode_meta meta;
	struct file_id id = {0};
	int is_new = node->inode == NULL || !S_ISDIR(node->inode->meta.mode);
	if (path_of(plan, node) != 0)
		return -1;
	int there = inspect_dir(plan, &attributes, &meta, &id);
	if (there < 0)
		return -1;
	if (there == 0 || meta.ino != node->ino || meta.dev != node->dev) {
		errno = ESTALE;
		if (plan->index->options->frozen)
			return index_fail(plan->index, plan->root, plan->index->path, "was replaced");
		/* What was found in it stays planned, so the standby needs it; the next scan looks again. */
		meta = (struct inode_meta){.dev = node->dev, .ino = node->ino, .mode = S_IFDIR | 0700, .stale = 1};
		id = (struct file_id){0};
	}
	int was_opaque = !is_new && node->inode->meta.opaque && node->inode->meta.ino == node->ino;
	int differs = is_new || meta_visible_change(&node->inode->meta, &meta) || node->inode->meta.ino != node->ino;
	struct inode *inode = inode_for(plan, node, 0);
	if (inode == NULL || (is_new && write_dir(plan, node) != 0) || node_set_inode(plan->index, node, inode) != 0 ||
	    inode_set_meta(plan->index, inode, &meta) != 0)
		return out_of_memory(plan);
	inode_learn(inode, &id);
	if (is_merged(plan, node, &meta))
		inode_set_merged(inode);
	if (meta.opaque && !was_opaque && list_add(&plan->root->opaque, node) != 0)
		return out_of_memory(plan);
	if (is_new && node->parent != NULL && owe_dirmeta(plan, node->parent) != 0)
		return -1;
	return differs ? owe_dirmeta(plan, node) : 0;
}

static int write_opaque(const struct plan *plan, const struct node *node)
{
	uint8_t head[4];
	uint32_t kept = 0;
	for (uint32_t i = 0; i < node->children; i++)
		kept += seen(plan, node->child[i]) && node->child[i]->inode != NULL;
	put_u32(head, kept);
	if (path_of(plan, node) != 0 || epoch_record(plan->w, FILES_OPAQUE, head, sizeof head, plan->index->path,
	                                             strlen(plan->index->path)) != 0)
		return -1;
	for (uint32_t i = 0; i < node->children; i++) {
		const struct node *child = node->child[i];
		if (seen(plan, child) && child->inode != NULL &&
		    epoch_record(plan->w, FILES_KEEP, child->name, child->name_bytes, NULL, 0) != 0)
			return -1;
	}
	return 0;
}

static int write_dirmeta(const struct plan *plan, struct node *node)
{
	struct attributes attributes;
	struct inode_meta meta;
	struct file_id id;
	uint8_t head[2 + FILES_META_BYTES];
	if (path_of(plan, node) != 0)
		return -1;
	int there = inspect_dir(plan, &attributes, &meta, &id);
	if (there <= 0)
		return there;
	put_u16(head, attributes.count);
	meta_encode(&meta, head + 2);
	plan->index->stats->changed++;
	if (epoch_record(plan->w, FILES_DIRMETA, head, sizeof head, plan->index->path, strlen(plan->index->path)) != 0)
		return -1;
	return attributes_write(plan->index, &attributes);
}

/* ---- regular files: which name means which inode ---- */

/* A name that the standby has for this inode and that goes on meaning it. */
static struct node *survivor(const struct plan *plan, const struct inode *inode, const struct node *except)
{
	for (struct node *node = inode->nodes; node != NULL; node = node->same_inode)
		if (node != except && seen(plan, node) && S_ISREG(node->mode) && node->ino == inode->meta.ino &&
		    node->dev == inode->meta.dev)
			return node;
	return NULL;
}

/*
 * The one name that the standby has for this inode, gone here, with directories above it that the operations before a rename
 * leave alone.
 */
static struct node *renamed_from(const struct plan *plan, const struct inode *inode)
{
	struct node *node = inode->nodes;
	if (node == NULL || node->same_inode != NULL || seen(plan, node) ||
	    node->renamed_scan == plan->index->scan)
		return NULL;
	for (const struct node *above = node->parent; above != NULL; above = above->parent)
		if (seen(plan, above) && !S_ISDIR(above->mode))
			return NULL;
	return node;
}

static int write_rename(const struct plan *plan, struct node *from, struct node *to)
{
	uint8_t head[2];
	char source[EPOCH_PATH_BYTES_MAX + 1], both[2 * EPOCH_PATH_BYTES_MAX + 2];
	if (node_path(from, source) != 0 || path_of(plan, to) != 0)
		return -1;
	size_t from_bytes = strlen(source), to_bytes = strlen(plan->index->path);
	memcpy(both, source, from_bytes);
	memcpy(both + from_bytes, plan->index->path, to_bytes);
	put_u16(head, (uint16_t)from_bytes);
	from->renamed_scan = plan->index->scan;
	plan->index->stats->renames++;
	if (owe_dirmeta(plan, from->parent) != 0)
		return -1;
	return epoch_record(plan->w, FILES_RENAME, head, sizeof head, both, from_bytes + to_bytes);
}

/* The standby has nothing of it. */
static int plan_create(const struct plan *plan, struct node *node)
{
	struct inode *inode = inode_new(plan->root, node->dev, node->ino);
	if (inode == NULL)
		return out_of_memory(plan);
	inode->meta.mode = S_IFREG;
	node->create = 1;
	if (node_set_inode(plan->index, node, inode) != 0)
		return out_of_memory(plan);
	return list_add(&plan->root->files, node);
}

static int plan_file(const struct plan *plan, struct node *node)
{
	struct inode *inode = inode_find(plan->root, node->dev, node->ino);
	int known = inode != NULL && S_ISREG(inode->meta.mode);
	node->create = 0;
	if (known && node->inode == inode)
		return list_add(&plan->root->files, node);
	if (owe_dirmeta(plan, node->parent) != 0)
		return -1;
	struct node *same = known ? survivor(plan, inode, node) : NULL;
	if (same != NULL) {
		if (node_set_inode(plan->index, node, inode) != 0 || list_add(&plan->root->targets, same) != 0)
			return out_of_memory(plan);
		return list_add(&plan->root->links, node);
	}
	int was_dir = node->inode != NULL && S_ISDIR(node->inode->meta.mode);
	struct node *from = known && !was_dir ? renamed_from(plan, inode) : NULL;
	if (from == NULL)
		return plan_create(plan, node);
	if (write_rename(plan, from, node) != 0 || node_set_inode(plan->index, node, inode) != 0)
		return out_of_memory(plan);
	return list_add(&plan->root->files, node);
}

static int write_file(const struct plan *plan, struct node *node)
{
	if (path_of(plan, node) != 0)
		return -1;
	return content_write(plan->index, plan->root, node, plan->index->path, node->create);
}

static int write_link(const struct plan *plan, struct node *existing, struct node *node)
{
	uint8_t head[2];
	char both[2 * EPOCH_PATH_BYTES_MAX + 2];
	if (node_path(existing, both) != 0 || path_of(plan, node) != 0)
		return -1;
	size_t existing_bytes = strlen(both), bytes = strlen(plan->index->path);
	memcpy(both + existing_bytes, plan->index->path, bytes);
	put_u16(head, (uint16_t)existing_bytes);
	plan->index->stats->changed++;
	return epoch_record(plan->w, FILES_LINK, head, sizeof head, both, existing_bytes + bytes);
}

/* ---- the rest ---- */

static int write_symlink(const struct plan *plan, const struct inode_meta *meta, int *gone)
{
	uint8_t head[FILES_META_BYTES + 2];
	char both[2 * EPOCH_PATH_BYTES_MAX + 2];
	size_t bytes = strlen(plan->index->path);
	memcpy(both, plan->index->path, bytes);
	int fd = open_below(plan->root, plan->index->path, O_PATH);
	ssize_t target = fd < 0 ? -1 : readlinkat(fd, "", both + bytes, EPOCH_PATH_BYTES_MAX);
	int error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	*gone = target < 0 && vanished(plan);
	if (target <= 0)
		return *gone ? 0 : index_fail(plan->index, plan->root, plan->index->path, "cannot read a symbolic link");
	meta_encode(meta, head);
	put_u16(head + FILES_META_BYTES, (uint16_t)bytes);
	return epoch_record(plan->w, FILES_SYMLINK, head, sizeof head, both, bytes + (size_t)target);
}

static int write_node(const struct plan *plan, const struct inode_meta *meta)
{
	uint8_t head[8 + FILES_META_BYTES];
	put_u64(head, meta->rdev);
	meta_encode(meta, head + 8);
	return epoch_record(plan->w, FILES_NODE, head, sizeof head, plan->index->path, strlen(plan->index->path));
}

static int write_remove(const struct plan *plan, struct node *node)
{
	if (path_of(plan, node) != 0 || owe_dirmeta(plan, node->parent) != 0)
		return -1;
	plan->index->stats->removed++;
	return epoch_record(plan->w, FILES_REMOVE, plan->index->path, strlen(plan->index->path), NULL, 0);
}

/* Symbolic links, fifos, devices and whiteouts; small enough to be written whole whenever their times moved. */
static int write_other(const struct plan *plan, struct node *node)
{
	struct stat st;
	struct inode_meta meta;
	struct file_id id;
	int gone = 0, result = 0;
	if (path_of(plan, node) != 0)
		return -1;
	if (stat_below(plan, plan->index->path, &st, &id) != 0)
		return vanished(plan) ? 0 : index_fail(plan->index, plan->root, plan->index->path, "cannot be opened");
	if (st.st_ino != node->ino || st.st_mode != node->mode || st.st_rdev != node->rdev) {
		errno = ESTALE;
		return plan->index->options->frozen ? index_fail(plan->index, plan->root, plan->index->path, "was replaced") : 0;
	}
	meta_of(plan->index, &st, &meta);
	int whiteout = is_whiteout(plan->root, meta.mode, meta.rdev);
	struct inode *inode = inode_for(plan, node, whiteout);
	if (inode == NULL)
		return out_of_memory(plan);
	/* An overlay's whiteouts are links to one another: its times move when any of them comes or goes. */
	int known = node->inode == inode && inode->meta.mode == meta.mode && inode->meta.rdev == meta.rdev;
	if (whiteout)
		result = known ? 0 : write_remove(plan, node);
	else if (S_ISLNK(meta.mode))
		result = write_symlink(plan, &meta, &gone);
	else
		result = write_node(plan, &meta);
	if (result != 0 || gone)
		return result;
	plan->index->stats->changed++;
	/* Applied by taking it away and making it anew, so the directory's mtime moves even if it did not here. */
	if (!(known && whiteout) && owe_dirmeta(plan, node->parent) != 0)
		return -1;
	if (node_set_inode(plan->index, node, inode) != 0 || inode_set_meta(plan->index, inode, &meta) != 0)
		return out_of_memory(plan);
	inode_learn(inode, &id);
	return 0;
}

static int write_gone(const struct plan *plan, struct node *node)
{
	const struct inode *inode = node->inode;
	if (inode == NULL || node->renamed_scan == plan->index->scan || !S_ISDIR(node->parent->mode) || !seen(plan, node->parent) ||
	    is_whiteout(plan->root, inode->meta.mode, inode->meta.rdev))
		return 0;
	return write_remove(plan, node);
}

/* ---- all of it ---- */

static int write_begin(const struct plan *plan)
{
	uint8_t kind = (uint8_t)plan->root->kind;
	if (epoch_section_begin(plan->w, EPOCH_SECTION_FILES) != 0 ||
	    epoch_record(plan->w, FILES_ROOT, &kind, 1, plan->root->name, strlen(plan->root->name)) != 0)
		return -1;
	return plan->index->reset ? epoch_record(plan->w, FILES_RESET, NULL, 0, NULL, 0) : 0;
}

/* Directories first, each before what is in it: the walk found them in that order. */
static int plan_changed(const struct plan *plan)
{
	const struct list *changed = &plan->root->changed;
	for (size_t i = 0; i < changed->count; i++)
		if (S_ISDIR(changed->node[i]->mode) && seen(plan, changed->node[i]) && plan_dir(plan, changed->node[i]) != 0)
			return -1;
	for (size_t i = 0; i < changed->count; i++) {
		struct node *node = changed->node[i];
		if (S_ISDIR(node->mode))
			continue;
		if (S_ISREG(node->mode) ? plan_file(plan, node) != 0 : list_add(&plan->root->others, node) != 0)
			return -1;
	}
	return 0;
}

static int each(const struct plan *plan, const struct list *list, int (*write)(const struct plan *, struct node *))
{
	for (size_t i = 0; i < list->count; i++)
		if (write(plan, list->node[i]) != 0)
			return -1;
	return 0;
}

static int write_opaque_node(const struct plan *plan, struct node *node)
{
	return write_opaque(plan, node);
}

static int write_other_but_whiteout(const struct plan *plan, struct node *node)
{
	return is_whiteout(plan->root, node->mode, node->rdev) ? 0 : write_other(plan, node);
}

static int write_whiteout(const struct plan *plan, struct node *node)
{
	return is_whiteout(plan->root, node->mode, node->rdev) ? write_other(plan, node) : 0;
}

int plan_root(struct files_index *index, struct root *root)
{
	struct plan plan = {index, root, index->w};
	if (write_begin(&plan) != 0 || plan_changed(&plan) != 0 || each(&plan, &root->opaque, write_opaque_node) != 0 ||
	    each(&plan, &root->files, write_file) != 0 || each(&plan, &root->others, write_other_but_whiteout) != 0)
		return -1;
	for (size_t i = 0; i < root->links.count; i++)
		if (write_link(&plan, root->targets.node[i], root->links.node[i]) != 0)
			return -1;
	if (each(&plan, &root->others, write_whiteout) != 0 || each(&plan, &root->gone, write_gone) != 0 ||
	    each(&plan, &root->dirs, write_dirmeta) != 0)
		return -1;
	return epoch_section_end(index->w);
}
