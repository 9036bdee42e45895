/*
 * The content of one regular file against the hashes of what the standby has. What is hashed is the very buffer that is
 * shipped, so the index is right even if the file moves meanwhile (presync).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files/index.h"

#define BLOCK ((uint64_t)HASH_BLOCK_BYTES)
/* A file at least this large that grew is believed to have been appended to, and verified after the thaw. */
#define OPTIMISM_BYTES_MIN (1u << 20)
#define OPTIMISM_OVERLAP_BYTES (64u << 10)
#define DISTRUST_SCANS 1000

static const struct block_hash unknown = {UINT64_MAX, UINT64_MAX};

struct content {
	struct files_index *index;
	struct root *root;
	struct inode *inode;
	const char *path;
	int fd, create, begun, stopped;
	struct inode_meta now;
	struct attributes attributes;
	uint64_t run_start, run_end; /* to be shipped, within the buffer at hand */
	uint64_t hole_start, hole_end;
};

int open_below(const struct root *root, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
	                       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
	return (int)syscall(SYS_openat2, root->fd, *path ? path : ".", &how, sizeof how);
}

static int begin(struct content *c)
{
	uint8_t head[FILES_FILE_HEAD_BYTES];
	if (c->begun)
		return 0;
	c->begun = 1;
	head[0] = c->create ? FILES_FILE_CREATE : 0;
	put_u64(head + 1, c->now.size);
	put_u16(head + 9, c->attributes.count);
	meta_encode(&c->now, head + 11);
	return epoch_record(c->index->w, FILES_FILE, head, sizeof head, c->path, strlen(c->path));
}

static int ship_run(struct content *c, uint64_t buffer_start)
{
	uint8_t head[FILES_DATA_HEAD_BYTES];
	if (c->run_end == c->run_start)
		return 0;
	if (begin(c) != 0)
		return -1;
	put_u64(head, c->run_start);
	uint64_t bytes = c->run_end - c->run_start;
	int result = epoch_record(c->index->w, FILES_DATA, head, sizeof head, c->index->buffer + (c->run_start - buffer_start),
	                          bytes);
	c->run_start = c->run_end = 0;
	return result;
}

static int ship_hole(struct content *c)
{
	uint8_t head[16];
	if (c->hole_end == c->hole_start)
		return 0;
	if (begin(c) != 0)
		return -1;
	put_u64(head, c->hole_start);
	put_u64(head + 8, c->hole_end - c->hole_start);
	c->hole_start = c->hole_end = 0;
	return epoch_record(c->index->w, FILES_HOLE, head, sizeof head, NULL, 0);
}

/* How many bytes of that block the standby has; 0: none. */
static uint64_t had(const struct content *c, uint64_t block)
{
	const struct inode_meta *was = &c->inode->meta;
	if (c->create || block >= was->blocks)
		return 0;
	return was->size - block * BLOCK < BLOCK ? was->size - block * BLOCK : BLOCK;
}

static struct block_hash zero_hash(const struct content *c, uint64_t length)
{
	static const uint8_t zeroes[HASH_BLOCK_BYTES];
	return length == BLOCK ? c->index->zero : hash_block(&c->index->key, zeroes, length);
}

/* The budget of a presync is used up: says of the rest what the standby will have, and leaves it for the next scan. */
static int stop_at(struct content *c, uint64_t offset)
{
	for (; offset < c->now.size; offset += BLOCK) {
		uint64_t block = offset / BLOCK, length = c->now.size - offset < BLOCK ? c->now.size - offset : BLOCK;
		uint64_t old = had(c, block);
		if (old == length)
			continue;
		if (inode_set_hash(c->index, c->inode, block, old == 0 ? zero_hash(c, length) : unknown) != 0)
			return -1;
	}
	c->stopped = 1;
	c->now.stale = 1;
	c->index->stats->more = 1;
	return begin(c);
}

/* 1: the budget is used up. */
static int spend(struct content *c, uint64_t bytes)
{
	struct files_scan_stats *stats = c->index->stats;
	if (stats->captured_bytes + bytes > c->index->limits.bytes_max)
		return 1;
	stats->captured_bytes += bytes;
	return 0;
}

/* Adds to the run, which must be shipped from the buffer at hand before another begins. */
static int run_add(struct content *c, uint64_t from, uint64_t to, uint64_t buffer_start)
{
	if (c->run_end != from || c->run_end == c->run_start) {
		if (ship_run(c, buffer_start) != 0)
			return -1;
		c->run_start = from;
	}
	c->run_end = to;
	return 0;
}

static int compare_block(struct content *c, uint64_t offset, const uint8_t *bytes, uint64_t length, uint64_t buffer_start)
{
	uint64_t block = offset / BLOCK, old = had(c, block), keep = 0;
	struct block_hash hash = hash_block(&c->index->key, bytes, length);
	if (old == length && hash_equal(hash, c->inode->hash[block]))
		return 0;
	if (old == 0 && length == BLOCK && hash_equal(hash, c->index->zero))
		keep = length; /* growing the file makes it so */
	else if (old > 0 && old < length && hash_equal(hash_block(&c->index->key, bytes, old), c->inode->hash[block]))
		keep = old;
	if (keep < length && spend(c, length - keep)) {
		if (!c->index->options->frozen)
			return stop_at(c, offset);
		errno = EFBIG;
		return index_fail(c->index, c->root, c->path, "more was changed than one epoch may capture");
	}
	if (inode_set_hash(c->index, c->inode, block, hash) != 0)
		return -1;
	return keep == length ? 0 : run_add(c, offset + keep, offset + length, buffer_start);
}

static int compare_buffer(struct content *c, uint64_t start, uint64_t length)
{
	for (uint64_t at = 0; at < length && !c->stopped; at += BLOCK) {
		uint64_t bytes = length - at < BLOCK ? length - at : BLOCK;
		if (compare_block(c, start + at, c->index->buffer + at, bytes, start) != 0)
			return -1;
	}
	return ship_run(c, start);
}

static int read_range(struct content *c, uint64_t from, uint64_t to)
{
	while (from < to && !c->stopped) {
		uint64_t want = to - from < CONTENT_BUFFER_BYTES ? to - from : CONTENT_BUFFER_BYTES, got = 0;
		while (got < want) {
			ssize_t n = pread(c->fd, c->index->buffer + got, want - got, (off_t)(from + got));
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return index_fail(c->index, c->root, c->path, "cannot be read");
			if (n == 0)
				break;
			got += (uint64_t)n;
		}
		if (got < want) { /* it shrank under the reader: what is not there is zero, and next time it is read again */
			memset(c->index->buffer + got, 0, want - got);
			c->now.stale = 1;
		}
		c->index->stats->hashed_bytes += want;
		if (compare_buffer(c, from, want) != 0)
			return -1;
		from += want;
	}
	return 0;
}

/* Blocks that the file has no storage for: no byte is read. */
static int compare_hole(struct content *c, uint64_t from, uint64_t to)
{
	for (uint64_t offset = from; offset < to; offset += BLOCK) {
		uint64_t length = to - offset < BLOCK ? to - offset : BLOCK, block = offset / BLOCK, old = had(c, block);
		struct block_hash zero = zero_hash(c, length);
		if (old == length && hash_equal(zero, c->inode->hash[block]))
			continue;
		if (inode_set_hash(c->index, c->inode, block, zero) != 0)
			return -1;
		if (old == 0)
			continue;
		if (c->hole_end != offset && ship_hole(c) != 0)
			return -1;
		if (c->hole_end == c->hole_start)
			c->hole_start = offset;
		c->hole_end = offset + length;
	}
	return ship_hole(c);
}

/* Ascending, so data and holes come in the order of their offsets. */
static int compare_from(struct content *c, uint64_t from, int sparse)
{
	uint64_t size = c->now.size;
	if (!sparse)
		return read_range(c, from, size);
	while (from < size && !c->stopped) {
		off_t data = lseek(c->fd, (off_t)from, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return read_range(c, from, size);
		uint64_t start = data < 0 || (uint64_t)data >= size ? size : (uint64_t)data / BLOCK * BLOCK;
		if (start > from && compare_hole(c, from, start) != 0)
			return -1;
		if (start >= size)
			return 0;
		from = start > from ? start : from;
		off_t hole = lseek(c->fd, (off_t)from, SEEK_HOLE);
		uint64_t end = hole < 0 ? size : ((uint64_t)hole + BLOCK - 1) / BLOCK * BLOCK;
		if (end <= from || end > size)
			end = size;
		if (read_range(c, from, end) != 0)
			return -1;
		from = end;
	}
	return 0;
}

/* Where to begin: 0, or near the end of a file that seems to have been appended to, which files_verify() then proves. */
static uint64_t optimistic_start(struct content *c)
{
	struct files_index *index = c->index;
	const struct inode_meta *was = &c->inode->meta;
	if (!index->options->frozen || c->create || was->size < OPTIMISM_BYTES_MIN || c->now.size <= was->size ||
	    c->root->always_compare || is_mapped(index, c->root, c->now.ino) ||
	    index->scan < c->inode->distrust_until || index->deferreds == DEFERRED_MAX)
		return 0;
	int fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	uint64_t blocks = (was->size - OPTIMISM_OVERLAP_BYTES) / BLOCK;
	index->deferred[index->deferreds++] = (struct deferred){fd, c->inode, blocks};
	return blocks * BLOCK;
}

static int write_opened(struct content *c, const struct stat *st)
{
	struct files_index *index = c->index;
	struct file_id id = file_id_of(c->root, c->fd);
	inode_learn(c->inode, &id);
	meta_of(index, st, &c->now);
	if (c->now.size > FILES_SIZE_MAX) {
		errno = EFBIG;
		return index_fail(index, c->root, c->path, "the file is larger than can be protected");
	}
	c->now.blocks = (c->now.size + BLOCK - 1) / BLOCK;
	if (attributes_read(index, c->root, c->fd, c->path, &c->attributes) != 0)
		return -1;
	c->now.attributes = c->attributes.hash;
	if (inode_reserve(c->inode, c->now.blocks) != 0)
		return index_fail(index, c->root, c->path, "no memory for its hashes");
	if ((c->create || meta_visible_change(&c->inode->meta, &c->now)) && begin(c) != 0)
		return -1;
	int sparse = (uint64_t)st->st_blocks * 512 < c->now.size;
	if (compare_from(c, optimistic_start(c), sparse) != 0)
		return -1;
	struct stat after;
	if (fstat(c->fd, &after) != 0 || after.st_ctim.tv_sec != st->st_ctim.tv_sec ||
	    after.st_ctim.tv_nsec != st->st_ctim.tv_nsec || is_mapped(index, c->root, c->now.ino))
		c->now.stale = 1;
	if (c->begun) {
		index->stats->changed++;
		if (attributes_write(index, &c->attributes) != 0)
			return -1;
	}
	return inode_set_meta(index, c->inode, &c->now);
}

/* It vanished between the walk and now: the standby gets an empty file, which the next scan takes away or fills. */
static int write_vanished(struct content *c)
{
	if (!c->create)
		return 0;
	c->now = (struct inode_meta){.dev = c->inode->meta.dev, .ino = c->inode->meta.ino, .mode = S_IFREG | 0600, .stale = 1};
	return begin(c) != 0 ? -1 : inode_set_meta(c->index, c->inode, &c->now);
}

int content_write(struct files_index *index, struct root *root, struct node *node, const char *path, int create)
{
	struct content c = {.index = index, .root = root, .inode = node->inode, .path = path, .create = create};
	struct stat st;
	if (c.inode->done_scan == index->scan)
		return 0;
	c.inode->done_scan = index->scan;
	c.fd = open_below(root, path, O_RDONLY | O_NONBLOCK | O_NOATIME);
	int error = errno, there = c.fd >= 0 && fstat(c.fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == node->ino &&
	                           st.st_dev == node->dev;
	int result;
	if (there) {
		result = write_opened(&c, &st);
	} else if (!index->options->frozen && (c.fd >= 0 || error == ENOENT || error == ENOTDIR || error == ELOOP)) {
		result = write_vanished(&c);
	} else {
		errno = c.fd >= 0 ? ESTALE : error;
		result = index_fail(index, root, path, "cannot be opened, or was replaced while it was read");
	}
	error = errno;
	if (c.fd >= 0)
		close(c.fd);
	errno = error;
	return result;
}

static int verify_one(struct files_index *index, const struct deferred *d)
{
	for (uint64_t block = 0; block < d->blocks;) {
		uint64_t blocks = d->blocks - block < CONTENT_BUFFER_BYTES / BLOCK ? d->blocks - block : CONTENT_BUFFER_BYTES / BLOCK;
		ssize_t got = pread(d->fd, index->buffer, blocks * BLOCK, (off_t)(block * BLOCK));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || got % (ssize_t)BLOCK != 0 || got == 0)
			return 0;
		for (ssize_t at = 0; at < got; at += (ssize_t)BLOCK, block++)
			if (!hash_equal(hash_block(&index->key, index->buffer + at, BLOCK), d->inode->hash[block]))
				return 0;
	}
	return 1;
}

int content_verify(struct files_index *index)
{
	int result = 0;
	for (size_t i = 0; i < index->deferreds; i++) {
		struct deferred *d = &index->deferred[i];
		if (verify_one(index, d))
			continue;
		d->inode->distrust_until = index->scan + DISTRUST_SCANS;
		result = -1;
	}
	if (result != 0)
		errno = EAGAIN;
	return result;
}

void content_forget_deferred(struct files_index *index)
{
	for (size_t i = 0; i < index->deferreds; i++)
		close(index->deferred[i].fd);
	index->deferreds = 0;
}
