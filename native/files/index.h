/*
 * What the standby has, by path: a tree of nodes, each with the inode it names. Internal to native/files.
 *
 * Invariants: children are sorted by name unless `unsorted` is set; a node with an inode is in that inode's list of nodes; an
 * inode is in its root's table exactly as long as its list is not empty or a note of the undo log names it. Every change
 * between a scan's begin and its end is noted in the undo log, so that rollback gives back exactly what was.
 */
#ifndef FT_FILES_INDEX_H
#define FT_FILES_INDEX_H
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "epoch/format.h"
#include "files/hash.h"
#include "files/records.h"
#include "files/scan.h"
#include "files/told.h"

struct inode_meta {
	uint64_t dev, ino, size, rdev;
	uint32_t mode, uid, gid;
	struct timespec mtime, ctime;
	struct block_hash attributes;
	uint8_t stale;     /* compare next time whatever its times say */
	uint8_t opaque;
	uint64_t blocks; /* of `hash` that are valid: size rounded up */
};

/* What the kernel calls an inode when it tells of it: a file handle, which has a generation besides the number. */
#define FILE_ID_BYTES_MAX 24u
struct file_id {
	int32_t type;
	uint32_t bytes;
	uint8_t handle[FILE_ID_BYTES_MAX];
};

struct node;
struct inode {
	struct root *root;
	struct inode_meta meta;
	struct block_hash *hash; /* of regular files */
	uint64_t hash_room;
	uint64_t done_scan;  /* the scan that has written it already */
	uint64_t distrust_until; /* no optimism about appends before this scan */
	uint32_t notes;          /* undo notes that name it */
	struct file_id id;       /* id.bytes 0: not learnt yet */
	struct inode *next_id;   /* in its slot of the root's table of handles */
	struct inode *next_merged, **merged_back; /* in the root's list of merged directories; merged_back NULL: it is none */
	struct node *nodes;
	struct inode *next; /* in its slot of the table */
};

struct node {
	struct node *parent;
	struct inode *inode; /* NULL until it is written for the first time */
	struct node *same_inode, **same_inode_back;
	struct node **child;
	uint32_t children, room;
	uint64_t seen;         /* number of the scan that found it */
	uint64_t dirmeta_scan; /* the scan that owes it a DIRMETA */
	uint64_t renamed_scan; /* the scan that gave its inode another name */
	uint64_t dropped_scan; /* the scan that found it gone, with all that is below */
	uint64_t walked_scan;  /* of a directory: the scan that looked at everything in it */
	/* As found by that scan. */
	uint64_t dev, ino, rdev;
	uint32_t mode;
	uint8_t unsorted, create;
	uint16_t name_bytes;
	char name[];
};

enum note_kind { NOTE_ADDED, NOTE_REMOVED, NOTE_INODE, NOTE_META, NOTE_HASH };
struct note {
	enum note_kind kind;
	struct node *node;
	struct inode *inode; /* NOTE_INODE: the one before, may be NULL */
	union {
		struct inode_meta *meta;
		struct {
			uint64_t block;
			struct block_hash hash;
		} was;
	} u;
};

struct list {
	struct node **node;
	size_t count, room;
};

struct root {
	enum files_kind kind;
	int fd;
	int always_compare; /* tmpfs: writes through a mapping leave no time */
	uint64_t dev;
	char *name;
	struct node *top;
	struct inode **slot, **id_slot; /* alike long */
	size_t slots, inodes;
	/*
	 * Directories of an overlay that may lie over one of the image: neither they nor any above is opaque. Once in it they stay, so
	 * it may hold too many: that costs a look.
	 */
	struct inode *merged;
	size_t unlearnt;       /* inodes without a handle: nothing that is told would be understood to be theirs */
	const char *unwatched; /* why the kernel does not tell of this root; NULL: it does */
	int told;              /* the running scan looks at what was told, and nothing else */
	/* Of the running scan; dirs: those whose DIRMETA is due; links, targets: alike long. */
	struct list changed, gone, dirs, opaque, files, others, links, targets;
};

struct deferred {
	int fd;
	struct inode *inode;
	uint64_t blocks;
};
#define DEFERRED_MAX 64

/* A file that a task has open for writing or mapped, as the index calls it; root NULL: of any root. */
struct used {
	const struct root *root;
	uint64_t ino;
	int mapped;
};

struct files_index {
	struct root root[FILES_ROOTS_MAX];
	size_t roots;
	char **exclude;
	size_t excludes;
	struct files_limits limits;
	struct hash_key key;
	struct block_hash zero; /* of a whole block of zeroes */
	uint64_t chain, seq, scan, entries;
	int pending, reset;
	int frozen, failed; /* the last scan was */
	int watch;         /* fanotify group, or -1 */
	int audit;         /* compare all of it after every frozen scan */
	const char *doubt; /* why the next scan must walk; NULL: what was told since the last scan is all that changed */
	struct told_set told;
	struct used *used;
	size_t used_count, used_room;
	struct timespec scan_start; /* by the clock that stamps files */
	struct note *note;
	size_t notes, note_room;
	struct deferred deferred[DEFERRED_MAX];
	size_t deferreds;
	uint8_t *buffer; /* CONTENT_BUFFER_BYTES */
	uint8_t *attributes;
	char path[EPOCH_PATH_BYTES_MAX + 1];
	char error[EPOCH_PATH_BYTES_MAX + 128];
	/* The running scan's. */
	struct epoch_writer *w;
	const struct files_scan_options *options;
	struct files_scan_stats *stats;
};
#define CONTENT_BUFFER_BYTES FILES_DATA_BYTES_MAX
#define ATTRIBUTES_BUFFER_BYTES (256u << 10)

/* All return -1 (or NULL) with errno ENOMEM when memory is short. */
struct node *node_new(struct node *parent, const char *name);
int node_add(struct files_index *index, struct node *parent, struct node *child);
/* The same, into its place. */
int node_insert(struct files_index *index, struct node *parent, struct node *child);
struct node *node_child(const struct node *parent, const char *name);
void node_sort(struct node *node);
void node_free_tree(struct node *node);
/* What the last scan found makes way for what the index has, in all of a tree. */
void node_restore(struct node *node);
/* Takes the children that this scan has not seen out of a directory and puts them on the root's list of what is gone. */
int node_drop_unseen(struct files_index *index, struct root *root, struct node *dir);
/* The same for one child. */
int node_drop(struct files_index *index, struct root *root, struct node *child);
/* Whether the running scan found it or something above it gone. */
int node_is_dropped(const struct files_index *index, const struct node *node);
/* The path from the root, "" for the root, into a buffer of EPOCH_PATH_BYTES_MAX + 1. -1 with ENAMETOOLONG. */
int node_path(const struct node *node, char *out);
int list_add(struct list *list, struct node *node);

struct inode *inode_find(const struct root *root, uint64_t dev, uint64_t ino);
/* Another object for the same inode: names of what is no regular file have one each. */
struct inode *inode_find_next(const struct inode *inode);
struct inode *inode_new(struct root *root, uint64_t dev, uint64_t ino);
struct inode *inode_find_id(const struct root *root, const struct file_id *id);
/* Empty where nothing is watched, or there is none. */
struct file_id file_id_of(const struct root *root, int fd);
struct file_id file_id_at(const struct root *root, int fd, const char *name);
int inode_is(const struct inode *inode, const struct file_id *id);
/* By what this inode is told of. Also for one that is known: a number that is used again has another handle. */
void inode_learn(struct inode *inode, const struct file_id *id);
/* Of a directory: puts it into its root's list of merged ones. */
void inode_set_merged(struct inode *inode);
int node_set_inode(struct files_index *index, struct node *node, struct inode *inode);
/* Replaces everything but the hashes; after inode_set_hash(), which notes only what `meta.blocks` says was there. */
int inode_set_meta(struct files_index *index, struct inode *inode, const struct inode_meta *meta);
/* Before the first of a file's hashes changes: room for so many. */
int inode_reserve(struct inode *inode, uint64_t blocks);
int inode_set_hash(struct files_index *index, struct inode *inode, uint64_t block, struct block_hash hash);

void undo_forget(struct files_index *index); /* commit */
void undo_all(struct files_index *index);    /* rollback */
void undo_to(struct files_index *index, size_t notes);

/* Says where a call failed; returns -1 and keeps errno. */
int index_fail(struct files_index *index, const struct root *root, const char *path, const char *what);

/* The steps of a scan; files/walk.c, files/plan.c, files/content.c, files/attributes.c. */
int is_mapped(const struct files_index *index, const struct root *root, uint64_t ino);
int walk_root(struct files_index *index, struct root *root);
/* The same for what was told alone. 1: what was found does not fit what was told, walk after all. */
int walk_told(struct files_index *index, struct root *root, struct told *const *told, size_t count);
/* Reads everything and compares it with the index. -1 with EUCLEAN and files_error() for the first difference. */
int audit_root(struct files_index *index, struct root *root);
int is_excluded(const struct files_index *index, const struct root *root, const char *path);
/* Turns the options' files into inodes of roots. */
int used_resolve(struct files_index *index, const struct files_scan_options *options);
/* Takes what the kernel has to tell out of its queue. */
void watch_drain(struct files_index *index);
void watch_close(struct files_index *index);
int plan_root(struct files_index *index, struct root *root);
/* A regular file: metadata, attributes and what differs of its content. `create`: the standby has nothing of it. */
int content_write(struct files_index *index, struct root *root, struct node *node, const char *path, int create);
int content_verify(struct files_index *index);
void content_forget_deferred(struct files_index *index);
/* Opens below the root, through no symbolic link and into no other mount. */
int open_below(const struct root *root, const char *path, int flags);
struct attributes {
	uint16_t count;
	int opaque, whiteout;
	struct block_hash hash;
	size_t bytes; /* in index->attributes: u32 length, then a FILES_ATTR payload, and so on */
};
int attributes_read(struct files_index *index, struct root *root, int fd, const char *path, struct attributes *out);
int attributes_write(struct files_index *index, const struct attributes *attributes);
void meta_of(const struct files_index *index, const struct stat *st, struct inode_meta *out); /* stale if its times are racy */
void meta_encode(const struct inode_meta *meta, uint8_t *out);
int meta_visible_change(const struct inode_meta *a, const struct inode_meta *b);
/* Whether a change at that time could be followed by one with the same time stamp, or came while this scan ran. */
int time_is_racy(const struct files_index *index, const struct timespec *at);
int is_whiteout(const struct root *root, uint32_t mode, uint64_t rdev);
int is_left_out(const struct root *root, uint32_t mode); /* a socket of a plain tree */
#endif
