/* The operations of a section of files, each checked before anyone acts upon it. */
#ifndef FT_FILES_PARSE_H
#define FT_FILES_PARSE_H
#include <stdint.h>

#include "epoch/reader.h"
#include "files/records.h"
#include "files/scan.h"

struct file_meta {
	uint32_t mode, uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
};

/* One record. `path` and `other` are NUL-terminated copies; `bytes` points into the blob. */
struct files_op {
	enum epoch_record_type type;
	char path[EPOCH_PATH_BYTES_MAX + 1];
	char other[EPOCH_PATH_BYTES_MAX + 1]; /* RENAME: to; LINK: new path (path = existing); SYMLINK: target; ATTR: name */
	struct file_meta meta;
	int create;
	uint64_t size, rdev, offset, length; /* DATA and HOLE: offset, length; ATTR: length of the value */
	uint32_t count;                      /* OPAQUE: names kept; FILE, DIRMETA: attributes */
	const uint8_t *bytes;                /* DATA, ATTR */
};

/* 1 and the next operation, 0 at the end, -1 and *e for a record that is malformed in itself. */
int files_op_next(struct epoch_cursor *c, struct files_op *out, struct epoch_error *e);

struct files_section {
	enum files_kind kind;
	char name[EPOCH_PATH_BYTES_MAX + 1]; /* of the root */
	int reset;
	struct epoch_cursor ops; /* what comes after ROOT and RESET */
	uint64_t bytes;          /* of content */
	uint64_t entries;        /* FILE, DIR, SYMLINK, NODE, LINK: what may need an inode */
};
/* Checks a whole section: paths, bounds, the order of operations and of blocks. 0, or -1 and *e (corrupt). */
int files_check(const struct epoch_section *section, struct files_section *out, struct epoch_error *e);
#endif
