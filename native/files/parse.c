#include "files/parse.h"

#include <string.h>
#include <sys/stat.h>

static int corrupt(struct epoch_error *e, const char *what)
{
	return epoch_fail(e, "corrupt", 0, "files: %s", what);
}

/* Relative, normalised, nothing that leads out; `empty_too` for the root itself. Also copies it. */
static int copy_path(const uint8_t *at, uint64_t length, int empty_too, char *out)
{
	unsigned depth = 0;
	if (length >= EPOCH_PATH_BYTES_MAX || (length == 0 && !empty_too) || memchr(at, 0, length) != NULL)
		return -1;
	memcpy(out, at, length);
	out[length] = 0;
	for (const char *name = out; length > 0;) {
		size_t bytes = strcspn(name, "/");
		if (bytes == 0 || bytes > FILES_NAME_BYTES_MAX || ++depth > FILES_DEPTH_MAX + 1)
			return -1;
		if ((bytes == 1 && name[0] == '.') || (bytes == 2 && name[0] == '.' && name[1] == '.'))
			return -1;
		if (name[bytes] == 0)
			break;
		name += bytes + 1;
	}
	return 0;
}

static int read_meta(const uint8_t *at, struct file_meta *out)
{
	out->mode = get_u32(at);
	out->uid = get_u32(at + 4);
	out->gid = get_u32(at + 8);
	out->mtime_s = (int64_t)get_u64(at + 12);
	out->mtime_ns = get_u32(at + 20);
	return out->mtime_ns < 1000000000u && (out->mode & ~(uint32_t)(S_IFMT | 07777)) == 0 ? 0 : -1;
}

static int has_type(const struct files_op *op, uint32_t type)
{
	return (op->meta.mode & S_IFMT) == type;
}

/* u16 length of the first, the first, the second. */
static int read_two(const uint8_t *at, uint64_t length, struct files_op *out)
{
	uint64_t first = length < 2 ? 0 : get_u16(at);
	if (length < 2 || first > length - 2 || copy_path(at + 2, first, 0, out->path) != 0)
		return -1;
	return copy_path(at + 2 + first, length - 2 - first, 0, out->other);
}

static int read_file(const uint8_t *at, uint64_t length, struct files_op *out)
{
	if (length < FILES_FILE_HEAD_BYTES || (at[0] & ~FILES_FILE_CREATE) != 0)
		return -1;
	out->create = at[0] & FILES_FILE_CREATE;
	out->size = get_u64(at + 1);
	out->count = get_u16(at + 9);
	if (out->size > FILES_SIZE_MAX || out->count > FILES_ATTRS_MAX || read_meta(at + 11, &out->meta) != 0)
		return -1;
	return has_type(out, S_IFREG) ? copy_path(at + FILES_FILE_HEAD_BYTES, length - FILES_FILE_HEAD_BYTES, 0, out->path) : -1;
}

static int read_symlink(const uint8_t *at, uint64_t length, struct files_op *out)
{
	if (length < FILES_META_BYTES + 2 || read_meta(at, &out->meta) != 0 || !has_type(out, S_IFLNK))
		return -1;
	uint64_t path = get_u16(at + FILES_META_BYTES), rest = length - FILES_META_BYTES - 2;
	at += FILES_META_BYTES + 2;
	if (path >= rest || rest - path >= EPOCH_PATH_BYTES_MAX || copy_path(at, path, 0, out->path) != 0 ||
	    memchr(at + path, 0, rest - path) != NULL)
		return -1;
	/* The target is only stored, never followed. */
	memcpy(out->other, at + path, rest - path);
	out->other[rest - path] = 0;
	return 0;
}

static int read_node(const uint8_t *at, uint64_t length, struct files_op *out)
{
	if (length < 8 + FILES_META_BYTES || read_meta(at + 8, &out->meta) != 0)
		return -1;
	out->rdev = get_u64(at);
	if (!has_type(out, S_IFIFO) && !has_type(out, S_IFCHR) && !has_type(out, S_IFBLK))
		return -1;
	return copy_path(at + 8 + FILES_META_BYTES, length - 8 - FILES_META_BYTES, 0, out->path);
}

static int read_attr(const uint8_t *at, uint64_t length, struct files_op *out)
{
	uint64_t name = length < 2 ? 0 : get_u16(at);
	if (name == 0 || name > FILES_NAME_BYTES_MAX || name > length - 2 || memchr(at + 2, 0, name) != NULL)
		return -1;
	memcpy(out->other, at + 2, name);
	out->other[name] = 0;
	out->bytes = at + 2 + name;
	out->length = length - 2 - name;
	return out->length <= 65536 ? 0 : -1;
}

static int read_keep(const uint8_t *at, uint64_t length, struct files_op *out)
{
	if (length > FILES_NAME_BYTES_MAX || memchr(at, '/', length) != NULL)
		return -1;
	return copy_path(at, length, 0, out->path);
}

static int read_op(const uint8_t *at, uint64_t length, struct files_op *out)
{
	switch (out->type) {
	case FILES_DIR:
		return length < FILES_META_BYTES || read_meta(at, &out->meta) != 0 || !has_type(out, S_IFDIR)
		               ? -1
		               : copy_path(at + FILES_META_BYTES, length - FILES_META_BYTES, 0, out->path);
	case FILES_DIRMETA:
		if (length < 2 + FILES_META_BYTES || read_meta(at + 2, &out->meta) != 0 || !has_type(out, S_IFDIR))
			return -1;
		out->count = get_u16(at);
		return out->count > FILES_ATTRS_MAX
		               ? -1
		               : copy_path(at + 2 + FILES_META_BYTES, length - 2 - FILES_META_BYTES, 1, out->path);
	case FILES_RENAME:
	case FILES_LINK:
		return read_two(at, length, out);
	case FILES_OPAQUE:
		out->count = length < 4 ? 0 : get_u32(at);
		return length < 4 ? -1 : copy_path(at + 4, length - 4, 1, out->path);
	case FILES_KEEP:
		return read_keep(at, length, out);
	case FILES_FILE:
		return read_file(at, length, out);
	case FILES_DATA:
		out->offset = length <= FILES_DATA_HEAD_BYTES ? 0 : get_u64(at);
		out->bytes = at + FILES_DATA_HEAD_BYTES;
		out->length = length - FILES_DATA_HEAD_BYTES;
		return length <= FILES_DATA_HEAD_BYTES ? -1 : 0;
	case FILES_HOLE:
		out->offset = length != 16 ? 0 : get_u64(at);
		out->length = length != 16 ? 0 : get_u64(at + 8);
		return out->length == 0 ? -1 : 0;
	case FILES_SYMLINK:
		return read_symlink(at, length, out);
	case FILES_NODE:
		return read_node(at, length, out);
	case FILES_REMOVE:
		return copy_path(at, length, 0, out->path);
	case FILES_ATTR:
		return read_attr(at, length, out);
	default:
		return -1;
	}
}

int files_op_next(struct epoch_cursor *c, struct files_op *out, struct epoch_error *e)
{
	struct epoch_record_view v;
	if (!epoch_cursor_next(c, &v))
		return 0;
	out->type = v.type;
	out->path[0] = out->other[0] = 0;
	return read_op(v.payload, v.length_bytes, out) == 0 ? 1 : corrupt(e, "a malformed operation");
}

/* The step of the order that an operation belongs to; 0: it belongs to the operation before it. */
static int step_of(enum epoch_record_type type)
{
	switch (type) {
	case FILES_DIR:
		return 1;
	case FILES_RENAME:
		return 2;
	case FILES_OPAQUE:
		return 3;
	case FILES_FILE:
		return 4;
	case FILES_SYMLINK:
	case FILES_NODE:
		return 5;
	case FILES_LINK:
		return 6;
	case FILES_REMOVE:
		return 7;
	case FILES_DIRMETA:
		return 8;
	default:
		return 0;
	}
}

struct order {
	int step;
	enum epoch_record_type owner;
	uint64_t size, at; /* of the file at hand; where the next block may begin */
	uint32_t attributes, kept;
	int data_ended;
};

static int check_part(struct order *o, const struct files_op *op, struct files_section *out)
{
	if (op->type == FILES_KEEP)
		return o->owner == FILES_OPAQUE && o->kept > 0 ? (o->kept--, 0) : -1;
	if (op->type == FILES_ATTR) {
		o->data_ended = 1;
		return o->attributes > 0 ? (o->attributes--, 0) : -1;
	}
	if (o->owner != FILES_FILE || o->data_ended || op->offset < o->at || op->offset >= o->size ||
	    op->length > o->size - op->offset)
		return -1;
	o->at = op->offset + op->length;
	out->bytes += op->type == FILES_DATA ? op->length : 0;
	return 0;
}

static int check_ops(struct files_section *out, struct epoch_error *e)
{
	static _Thread_local struct files_op op;
	struct epoch_cursor c = out->ops;
	struct order o = {0};
	int more;
	while ((more = files_op_next(&c, &op, e)) == 1) {
		int step = step_of(op.type);
		if (step == 0) {
			if (check_part(&o, &op, out) != 0)
				return corrupt(e, "blocks or attributes out of order, twice or outside of their file");
			continue;
		}
		if (step < o.step || o.attributes > 0 || o.kept > 0)
			return corrupt(e, "operations out of order, or one is not complete");
		o = (struct order){.step = step, .owner = op.type, .size = op.size};
		o.attributes = op.type == FILES_FILE || op.type == FILES_DIRMETA ? op.count : 0;
		o.kept = op.type == FILES_OPAQUE ? op.count : 0;
		out->entries += step != 2 && step != 3 && step < 7;
	}
	if (more == 0 && (o.attributes > 0 || o.kept > 0))
		return corrupt(e, "the last operation is not complete");
	return more;
}

int files_check(const struct epoch_section *section, struct files_section *out, struct epoch_error *e)
{
	struct epoch_record_view v;
	struct epoch_cursor c = epoch_cursor_of(section), after;
	memset(out, 0, sizeof *out);
	if (!epoch_cursor_next(&c, &v) || v.type != FILES_ROOT || v.length_bytes < 2 || v.payload[1] != '/' ||
	    (v.payload[0] != FILES_UPPER && v.payload[0] != FILES_TREE) ||
	    copy_path(v.payload + 2, v.length_bytes - 2, 1, out->name + 1) != 0)
		return corrupt(e, "a section names no root");
	out->name[0] = '/';
	out->kind = v.payload[0] == FILES_UPPER ? FILES_UPPER : FILES_TREE;
	after = c;
	if (epoch_cursor_next(&c, &v) && v.type == FILES_RESET && v.length_bytes == 0) {
		out->reset = 1;
		after = c;
	}
	out->ops = after;
	return check_ops(out, e);
}
