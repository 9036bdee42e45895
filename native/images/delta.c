#include "images/delta.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "images/patch.h"
#include "images/records.h"

#define BLOCK EPOCH_BLOCK_BYTES
#define PATCH_BYTES_MAX (2 + IMAGE_NAME_BYTES_MAX + 2 + 4 + IMAGE_RANGES_BYTES_MAX)
#define PATCHES_BYTES_MAX (64u << 10) /* of a record */
#define LOOKUP_MISSES_MIN 8 /* blocks in a row found nowhere, before the base's blocks are hashed */

/* An image's bytes. Small ones are read: mapping one costs more than its bytes do, and a thousand sockets have as many images. */
struct mapping {
	const uint8_t *bytes;
	uint64_t size;
	uint8_t small[IMAGE_PATCH_SIZE_MAX];
};

struct names {
	char **name;
	size_t count, room;
};

/* A base's blocks by their crc: a hint only, every candidate is compared. */
struct lookup {
	uint32_t *slot; /* block number + 1; 0 is free */
	uint64_t mask;
};

struct compare {
	struct epoch_writer *w;
	struct images_delta_stats *stats;
	struct lookup lookup;
	int64_t shift;        /* where the last moved block was found: base block minus new block */
	uint64_t copied;      /* never more than the base's size, so that a blob cannot blow up */
	unsigned misses;
	enum run_kind { KEEP, DATA, COPY } run;
	uint64_t run_start, run_bytes, run_source;
	struct mapping old, new;
};

/* The section as it is written. */
struct section {
	struct epoch_writer *w;
	struct images_delta_stats *stats;
	char last[IMAGE_NAME_BYTES_MAX + 1]; /* named in it */
	size_t used;                         /* patches that wait for their record */
	uint8_t patches[PATCHES_BYTES_MAX];
};

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int is_image(const char *name)
{
	size_t length = strlen(name);
	return name[0] != '.' && length > 4 && strcmp(name + length - 4, ".img") == 0;
}

static int names_add(struct names *names, const char *name)
{
	if (names->count == IMAGES_MAX) {
		errno = EFBIG;
		return -1;
	}
	if (names->count == names->room) {
		size_t room = names->room ? names->room * 2 : 64;
		char **grown = realloc(names->name, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		names->name = grown;
		names->room = room;
	}
	if ((names->name[names->count] = strdup(name)) == NULL)
		return -1;
	names->count++;
	return 0;
}

/* -1 with errno. Most file systems say it with the name. */
static int is_regular(int dirfd, const struct dirent *entry)
{
	struct stat st;
	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_REG;
	return fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ? -1 : S_ISREG(st.st_mode);
}

static int names_read(int dirfd, struct names *names)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	int result = 0;
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (entry == NULL) {
			result = errno != 0 ? -1 : result;
			break;
		}
		int regular = is_image(entry->d_name) ? is_regular(dirfd, entry) : 0;
		if (regular < 0 || (regular && names_add(names, entry->d_name) != 0)) {
			result = -1;
			break;
		}
	}
	int error = errno;
	closedir(dir);
	errno = error;
	if (result == 0 && names->count > 0)
		qsort(names->name, names->count, sizeof *names->name, by_bytes);
	return result;
}

static int read_small(int fd, struct mapping *m)
{
	for (uint64_t at = 0; at < m->size;) {
		ssize_t got = pread(fd, m->small + at, m->size - at, (off_t)at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			errno = got == 0 ? EIO : errno;
			return -1;
		}
		at += (uint64_t)got;
	}
	m->bytes = m->small;
	return 0;
}

static int mapping_open(int dirfd, const char *name, struct mapping *m)
{
	struct stat st;
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int result = fstat(fd, &st);
	m->bytes = NULL;
	m->size = result == 0 ? (uint64_t)st.st_size : 0;
	if (result == 0 && m->size <= IMAGE_PATCH_SIZE_MAX) {
		result = read_small(fd, m);
	} else if (m->size > 0) {
		void *at = mmap(NULL, m->size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
		if (at == MAP_FAILED)
			result = -1;
		else
			m->bytes = at;
	}
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static void mapping_close(struct mapping *m)
{
	if (m->bytes != NULL && m->bytes != m->small)
		munmap((void *)(uintptr_t)m->bytes, m->size);
}

static void lookup_build(struct compare *c)
{
	uint64_t blocks = c->old.size / BLOCK, room = 16;
	while (room < blocks * 2)
		room *= 2;
	if (blocks == 0 || blocks >= UINT32_MAX || (c->lookup.slot = calloc(room, sizeof *c->lookup.slot)) == NULL)
		return; /* a hint: without it more is shipped */
	c->lookup.mask = room - 1;
	for (uint64_t block = 0; block < blocks; block++) {
		uint64_t at = ft_crc32c(0, c->old.bytes + block * BLOCK, BLOCK) & c->lookup.mask;
		for (int tries = 0; tries < 16 && c->lookup.slot[at] != 0; tries++)
			at = (at + 1) & c->lookup.mask;
		if (c->lookup.slot[at] == 0)
			c->lookup.slot[at] = (uint32_t)block + 1;
	}
}

static int same_block(const struct compare *c, uint64_t offset, int64_t source)
{
	if (source < 0 || (uint64_t)source + BLOCK > c->old.size)
		return 0;
	return memcmp(c->old.bytes + source, c->new.bytes + offset, BLOCK) == 0;
}

/* The base's offset of a whole block equal to this one, or -1. */
static int64_t find_moved(struct compare *c, uint64_t offset)
{
	int64_t source = (int64_t)offset + c->shift;
	if (c->shift != 0 && same_block(c, offset, source))
		return source;
	if (c->old.size == c->new.size)
		return -1;
	if (c->lookup.slot == NULL && ++c->misses == LOOKUP_MISSES_MIN)
		lookup_build(c);
	if (c->lookup.slot == NULL)
		return -1;
	uint64_t at = ft_crc32c(0, c->new.bytes + offset, BLOCK) & c->lookup.mask;
	for (int tries = 0; tries < 16 && c->lookup.slot[at] != 0; tries++, at = (at + 1) & c->lookup.mask) {
		source = (int64_t)(c->lookup.slot[at] - 1) * BLOCK;
		if (same_block(c, offset, source)) {
			c->shift = source - (int64_t)offset;
			return source;
		}
	}
	return -1;
}

static int run_end(struct compare *c)
{
	int result = 0;
	if (c->run == DATA) {
		uint8_t head[IMAGE_DATA_HEAD_BYTES];
		put_u64(head, c->run_start);
		result = epoch_record(c->w, IMAGE_DATA, head, sizeof head, c->new.bytes + c->run_start, c->run_bytes);
		c->stats->shipped_bytes += c->run_bytes;
		c->stats->changed_blocks += (c->run_bytes + BLOCK - 1) / BLOCK;
	} else if (c->run == COPY) {
		uint8_t head[IMAGE_COPY_BYTES];
		put_u64(head, c->run_start);
		put_u64(head + 8, c->run_source);
		put_u64(head + 16, c->run_bytes);
		result = epoch_record(c->w, IMAGE_COPY, head, sizeof head, NULL, 0);
		c->stats->moved_blocks += c->run_bytes / BLOCK;
	}
	c->run = KEEP;
	c->run_bytes = 0;
	return result;
}

static int run_add(struct compare *c, enum run_kind kind, uint64_t offset, uint64_t bytes, uint64_t source)
{
	int joins = c->run == kind && (kind != DATA || c->run_bytes + bytes <= IMAGE_RUN_BYTES_MAX) &&
	            (kind != COPY || c->run_source + c->run_bytes == source);
	if (!joins) {
		if (run_end(c) != 0)
			return -1;
		c->run = kind;
		c->run_start = offset;
		c->run_source = source;
	}
	c->run_bytes += bytes;
	return 0;
}

static int compare_block(struct compare *c, uint64_t offset, uint64_t bytes)
{
	/* Kept only where the block has the same length in both: the standby keeps a crc a block. */
	uint64_t old_bytes = offset >= c->old.size ? 0 : c->old.size - offset < BLOCK ? c->old.size - offset : BLOCK;
	if (old_bytes == bytes && memcmp(c->old.bytes + offset, c->new.bytes + offset, bytes) == 0)
		return run_add(c, KEEP, offset, bytes, 0);
	int64_t source = bytes == BLOCK && c->copied + BLOCK <= c->old.size ? find_moved(c, offset) : -1;
	if (source < 0)
		return run_add(c, DATA, offset, bytes, 0);
	c->copied += BLOCK;
	c->misses = 0;
	return run_add(c, COPY, offset, bytes, (uint64_t)source);
}

static int write_image(struct compare *c, const char *name, int has_base)
{
	uint8_t head[IMAGE_FILE_HEAD_BYTES], end[4];
	put_u64(head, c->new.size);
	put_u64(head + 8, has_base ? c->old.size : IMAGE_NO_BASE);
	if (epoch_record(c->w, IMAGE_FILE, head, sizeof head, name, strlen(name)) != 0)
		return -1;
	uint32_t crc = 0;
	for (uint64_t offset = 0; offset < c->new.size; offset += BLOCK) {
		uint64_t bytes = c->new.size - offset < BLOCK ? c->new.size - offset : BLOCK;
		if (compare_block(c, offset, bytes) != 0)
			return -1;
		crc = ft_crc32c(crc, c->new.bytes + offset, bytes);
	}
	put_u32(end, crc);
	if (run_end(c) != 0)
		return -1;
	c->stats->files++;
	c->stats->image_bytes += c->new.size;
	return epoch_record(c->w, IMAGE_END, end, sizeof end, NULL, 0);
}

static int flush_patches(struct section *s)
{
	size_t used = s->used;
	s->used = 0;
	return used == 0 ? 0 : epoch_record(s->w, IMAGE_PATCHES, NULL, 0, s->patches, used);
}

static size_t same_bytes(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t same = 0;
	while (same < a_length && same < b_length && a[same] == b[same])
		same++;
	return same;
}

static size_t stem_bytes(const char *name)
{
	size_t length = strlen(name);
	return length > 4 ? length - 4 : 0;
}

static int add_patch(struct section *s, const struct compare *c, const char *name)
{
	uint8_t *at = s->patches + s->used;
	size_t stem = stem_bytes(name), same = same_bytes(s->last, stem_bytes(s->last), name, stem);
	uint32_t size = (uint32_t)c->new.size;
	*at++ = (uint8_t)same;
	*at++ = (uint8_t)(stem - same);
	memcpy(at, name + same, stem - same);
	at += stem - same;
	at += image_varint_write(at, size);
	put_u32(at, ft_crc32c(0, c->new.bytes, size));
	at += 4;
	size_t ranges = image_ranges_write(at, c->old.bytes, c->new.bytes, size);
	s->used = (size_t)(at - s->patches) + ranges;
	s->stats->files++;
	s->stats->image_bytes += size;
	s->stats->patched_files++;
	s->stats->shipped_bytes += ranges;
	strcpy(s->last, name);
	return s->used + PATCH_BYTES_MAX > sizeof s->patches ? flush_patches(s) : 0;
}

/* A change of size is rare, and takes the long way. */
static int is_patchable(const struct compare *c, int has_base)
{
	return has_base && c->new.size == c->old.size && c->new.size > 0 && c->new.size <= IMAGE_PATCH_SIZE_MAX;
}

static int add_image(struct section *s, struct compare *c, const char *name, int has_base)
{
	if (is_patchable(c, has_base))
		return add_patch(s, c, name);
	strcpy(s->last, name);
	return flush_patches(s) != 0 ? -1 : write_image(c, name, has_base);
}

static int add_removed(struct section *s, const char *name)
{
	strcpy(s->last, name);
	return flush_patches(s) != 0 ? -1 : epoch_record(s->w, IMAGE_REMOVED, name, strlen(name), NULL, 0);
}

static int compare_image(int prev_dirfd, int new_dirfd, const char *name, struct section *s)
{
	struct compare c;
	memset(&c, 0, offsetof(struct compare, old)); /* and not the bytes of small images */
	c.w = s->w;
	c.stats = s->stats;
	c.old.bytes = c.new.bytes = NULL;
	c.old.size = c.new.size = 0;
	int result = mapping_open(new_dirfd, name, &c.new);
	if (result == 0 && prev_dirfd >= 0)
		result = mapping_open(prev_dirfd, name, &c.old);
	if (result == 0)
		result = add_image(s, &c, name, prev_dirfd >= 0);
	int error = errno;
	mapping_close(&c.old);
	mapping_close(&c.new);
	free(c.lookup.slot);
	errno = error;
	return result;
}

/* Both lists are sorted: a merge. */
static int compare_all(int prev_dirfd, int new_dirfd, const struct names *old, const struct names *new, struct section *s)
{
	size_t o = 0, n = 0;
	while (o < old->count || n < new->count) {
		int order = o == old->count ? 1 : n == new->count ? -1 : strcmp(old->name[o], new->name[n]);
		int result;
		if (order < 0) {
			result = add_removed(s, old->name[o]);
			o++;
		} else {
			result = compare_image(order == 0 ? prev_dirfd : -1, new_dirfd, new->name[n], s);
			n++;
			o += order == 0;
		}
		if (result != 0)
			return -1;
	}
	return flush_patches(s);
}

int images_delta(int prev_dirfd, int new_dirfd, struct epoch_writer *w, struct images_delta_stats *stats)
{
	struct images_delta_stats unused;
	struct names old = {0}, new = {0};
	if (stats == NULL)
		stats = &unused;
	memset(stats, 0, sizeof *stats);
	struct section section = {.w = w, .stats = stats};
	int result = epoch_section_begin(w, EPOCH_SECTION_IMAGES);
	if (result == 0 && prev_dirfd >= 0)
		result = names_read(prev_dirfd, &old);
	if (result == 0)
		result = names_read(new_dirfd, &new);
	if (result == 0)
		result = compare_all(prev_dirfd, new_dirfd, &old, &new, &section);
	if (result == 0)
		result = epoch_section_end(w);
	int error = errno;
	names_free(&old);
	names_free(&new);
	errno = error;
	return result;
}
