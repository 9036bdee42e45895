/* Extended attributes and metadata, as they are compared and written. */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "files/index.h"

#define OVERLAY "trusted.overlay."

static int starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* Labels of the host's own (SELinux, IMA) are not the container's files. */
static int is_carried(const char *name)
{
	return starts_with(name, "user.") || starts_with(name, "trusted.") || strcmp(name, "security.capability") == 0 ||
	       starts_with(name, "system.posix_acl_");
}

static int overlay_attribute(struct files_index *index, struct root *root, int fd, const char *path, const char *name,
                             struct attributes *out)
{
	const char *what = name + strlen(OVERLAY);
	char value = 0;
	if (strcmp(what, "redirect") == 0 || strcmp(what, "metacopy") == 0) {
		errno = EOPNOTSUPP;
		return index_fail(index, root, path, "the overlay keeps part of it elsewhere (redirect_dir or metacopy is on)");
	}
	if (strcmp(what, "opaque") == 0 && fgetxattr(fd, name, &value, 1) == 1) {
		out->opaque = value == 'y';
		if (value == 'x') {
			errno = EOPNOTSUPP;
			return index_fail(index, root, path, "the overlay's whiteouts are attributes");
		}
	}
	return 0;
}

static int read_one(struct files_index *index, struct root *root, int fd, const char *path, const char *name,
                    struct attributes *out)
{
	size_t name_bytes = strlen(name), room = ATTRIBUTES_BUFFER_BYTES - out->bytes;
	uint8_t *at = index->attributes + out->bytes;
	if (room < 6 + name_bytes + 65536 || out->count == FILES_ATTRS_MAX) {
		errno = E2BIG;
		return index_fail(index, root, path, "too many extended attributes");
	}
	ssize_t value_bytes = fgetxattr(fd, name, at + 6 + name_bytes, 65536);
	if (value_bytes < 0)
		return errno == ENODATA ? 0 : index_fail(index, root, path, "cannot read an extended attribute");
	put_u32(at, (uint32_t)(2 + name_bytes + (size_t)value_bytes));
	put_u16(at + 4, (uint16_t)name_bytes);
	memcpy(at + 6, name, name_bytes);
	out->bytes += 6 + name_bytes + (size_t)value_bytes;
	out->count++;
	return 0;
}

static void hash_all(const struct files_index *index, struct attributes *out)
{
	for (size_t at = 0; at < out->bytes; at += HASH_BLOCK_BYTES) {
		size_t bytes = out->bytes - at < HASH_BLOCK_BYTES ? out->bytes - at : HASH_BLOCK_BYTES;
		struct block_hash part = hash_block(&index->key, index->attributes + at, bytes);
		out->hash.low = out->hash.low * 0x9e3779b97f4a7c15ull + part.low + out->bytes;
		out->hash.high = out->hash.high * 0xc2b2ae3d27d4eb4full + part.high + out->bytes;
	}
}

int attributes_read(struct files_index *index, struct root *root, int fd, const char *path, struct attributes *out)
{
	char names[65536];
	memset(out, 0, sizeof *out);
	ssize_t bytes = flistxattr(fd, names, sizeof names);
	if (bytes < 0)
		return errno == EOPNOTSUPP ? 0 : index_fail(index, root, path, "cannot list extended attributes");
	for (ssize_t at = 0; at < bytes; at += (ssize_t)strlen(names + at) + 1) {
		const char *name = names + at;
		int result = 0;
		if (root->kind == FILES_UPPER && starts_with(name, OVERLAY))
			result = overlay_attribute(index, root, fd, path, name, out);
		else if (is_carried(name))
			result = read_one(index, root, fd, path, name, out);
		if (result != 0)
			return -1;
	}
	hash_all(index, out);
	return 0;
}

int attributes_write(struct files_index *index, const struct attributes *attributes)
{
	for (size_t at = 0; at < attributes->bytes;) {
		uint32_t length = get_u32(index->attributes + at);
		if (epoch_record(index->w, FILES_ATTR, index->attributes + at + 4, length, NULL, 0) != 0)
			return -1;
		at += 4 + length;
	}
	return 0;
}

void meta_of(const struct files_index *index, const struct stat *st, struct inode_meta *out)
{
	memset(out, 0, sizeof *out);
	out->dev = st->st_dev;
	out->ino = st->st_ino;
	out->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	out->rdev = st->st_rdev;
	out->mode = st->st_mode;
	out->uid = st->st_uid;
	out->gid = st->st_gid;
	out->mtime = st->st_mtim;
	out->ctime = st->st_ctim;
	out->stale = (uint8_t)time_is_racy(index, &st->st_ctim);
}

void meta_encode(const struct inode_meta *meta, uint8_t *out)
{
	put_u32(out, meta->mode);
	put_u32(out + 4, meta->uid);
	put_u32(out + 8, meta->gid);
	put_u64(out + 12, (uint64_t)meta->mtime.tv_sec);
	put_u32(out + 20, (uint32_t)meta->mtime.tv_nsec);
}

int meta_visible_change(const struct inode_meta *a, const struct inode_meta *b)
{
	return a->mode != b->mode || a->uid != b->uid || a->gid != b->gid || a->size != b->size ||
	       a->mtime.tv_sec != b->mtime.tv_sec || a->mtime.tv_nsec != b->mtime.tv_nsec ||
	       !hash_equal(a->attributes, b->attributes);
}
