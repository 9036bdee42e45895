#include "images/table.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "images/parse.h"
#include "images/records.h"

#define BLOCK EPOCH_BLOCK_BYTES

struct images_table *images_table_empty(void)
{
	return calloc(1, sizeof(struct images_table));
}

void images_table_free(struct images_table *table)
{
	if (table == NULL)
		return;
	for (size_t i = 0; i < table->count; i++) {
		free(table->entry[i].crc);
		free(table->entry[i].small);
	}
	free(table->entry);
	free(table);
}

uint32_t image_entry_crc(const struct image_entry *entry)
{
	uint32_t crc = 0;
	for (uint64_t i = 0; i + 1 < entry->blocks; i++)
		crc = ft_crc32c_combine_4096(crc, entry->crc[i]);
	if (entry->blocks == 0)
		return 0;
	return ft_crc32c_combine(crc, entry->crc[entry->blocks - 1], entry->size - (entry->blocks - 1) * BLOCK);
}

/* A place at the end for an image of `size` bytes; its blocks' crcs are the caller's to fill. */
static struct image_entry *table_add(struct images_table *table, const char *name, uint64_t size)
{
	if (table->count == IMAGES_MAX)
		return NULL;
	if ((table->count & (table->count - 1)) == 0) {
		size_t room = table->count ? table->count * 2 : 1;
		struct image_entry *grown = realloc(table->entry, room * sizeof *grown);
		if (grown == NULL)
			return NULL;
		table->entry = grown;
	}
	struct image_entry *entry = &table->entry[table->count];
	assert(strlen(name) < sizeof entry->name);
	strcpy(entry->name, name);
	entry->size = size;
	entry->blocks = size / BLOCK + (size % BLOCK != 0);
	entry->crc = malloc(entry->blocks ? entry->blocks * sizeof *entry->crc : 1);
	entry->small = size <= IMAGE_PATCH_SIZE_MAX ? calloc(1, size + 1) : NULL;
	table->count++;
	if (entry->crc == NULL || (size <= IMAGE_PATCH_SIZE_MAX && entry->small == NULL))
		return NULL; /* what there is of it goes with the table */
	table->bytes += size;
	return entry;
}

static void hash_blocks(const uint8_t *bytes, uint64_t length, uint32_t *crc)
{
	for (uint64_t at = 0; at < length; at += BLOCK)
		*crc++ = ft_crc32c(0, bytes + at, length - at < BLOCK ? length - at : BLOCK);
}

/*
 * Whether the blocks [from, to) of the new image may be the base's: present there with the same length. Blocks before the new
 * image's last are whole in both if the base reaches that far.
 */
static int base_covers(const struct image_entry *base, const struct image_change *image, uint64_t from, uint64_t to)
{
	if (from >= to)
		return 1;
	if (base == NULL)
		return 0;
	uint64_t end = to * BLOCK < image->size ? to * BLOCK : image->size;
	return end % BLOCK == 0 ? end <= base->size : end == base->size;
}

/* Everything about an image that depends on its base, before anything is allocated for it. */
static int check_against_base(const struct image_entry *base, const struct image_change *image, int redo,
                              struct epoch_error *e)
{
	if (image->patched) /* written in place, so it has its size also where it is half done */
		return base != NULL && base->size == image->size
		               ? 0
		               : epoch_fail(e, "base", 0, "image %s is patched, and its base is another", image->name);
	if (image->base_size == IMAGE_NO_BASE ? base != NULL && !redo : base == NULL || (base->size != image->base_size && !redo))
		return epoch_fail(e, "base", 0, "image %s is built upon another base", image->name);
	if (image->base_size == IMAGE_NO_BASE)
		base = NULL;
	uint64_t next = 0, blocks = image->size / BLOCK + (image->size % BLOCK != 0);
	struct epoch_cursor extents = image->extents;
	struct image_extent x;
	while (image_extent_next(&extents, &x)) {
		if (!base_covers(base, image, next, x.offset / BLOCK))
			return epoch_fail(e, "corrupt", 0, "image %s has a gap", image->name);
		if (x.bytes == NULL && (base == NULL || x.source + x.length > base->size))
			return epoch_fail(e, "corrupt", 0, "image %s copies from beyond its base", image->name);
		next = (x.offset + x.length + BLOCK - 1) / BLOCK;
	}
	if (!base_covers(base, image, next, blocks))
		return epoch_fail(e, "corrupt", 0, "image %s has a gap at its end", image->name);
	return 0;
}

static void take_base(struct image_entry *entry, const struct image_entry *base)
{
	uint64_t blocks = base == NULL ? 0 : base->blocks < entry->blocks ? base->blocks : entry->blocks;
	memset(entry->crc, 0, entry->blocks * sizeof *entry->crc);
	if (blocks > 0)
		memcpy(entry->crc, base->crc, blocks * sizeof *entry->crc);
	if (entry->small != NULL && base != NULL && base->size == entry->size)
		memcpy(entry->small, base->small, entry->size);
}

static int add_change(struct images_table *table, const struct image_entry *base, const struct image_change *image, int redo,
                      struct epoch_error *e)
{
	int at_goal = redo && base != NULL && base->size == image->size && image_entry_crc(base) == image->crc;
	if (!at_goal && check_against_base(base, image, redo, e) != 0)
		return -1;
	struct image_entry *entry = table_add(table, image->name, image->size);
	if (entry == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory for the table of %s", image->name);
	take_base(entry, base);
	if (at_goal)
		return 0;
	if (image->patched) {
		image_ranges_apply(image->ranges, entry->small);
		hash_blocks(entry->small, entry->size, entry->crc);
	}
	struct epoch_cursor extents = image->extents;
	struct image_extent x;
	while (image_extent_next(&extents, &x)) {
		uint32_t *to = entry->crc + x.offset / BLOCK;
		if (x.bytes != NULL) {
			hash_blocks(x.bytes, x.length, to);
			if (entry->small != NULL) /* of one block: this is all of it */
				memcpy(entry->small + x.offset, x.bytes, x.length);
		} else
			memcpy(to, base->crc + x.source / BLOCK, x.length / BLOCK * sizeof *to);
	}
	if (image_entry_crc(entry) != image->crc)
		return epoch_fail(e, "base", 0, "image %s would not be what the primary has: its base differs", image->name);
	return 0;
}

static int apply_changes(struct images_table *table, const struct images_table *base, const struct epoch_section *section,
                         int redo, struct epoch_error *e)
{
	struct epoch_cursor c = epoch_cursor_of(section);
	struct image_change image = {.name = ""};
	size_t next = 0; /* images of the base accounted for */
	int more;
	while ((more = image_change_next(&c, &image, e)) == 1) {
		const struct image_entry *old = next < base->count ? &base->entry[next] : NULL;
		int order = old == NULL ? 1 : strcmp(old->name, image.name);
		if (order < 0 && !redo)
			return epoch_fail(e, "base", 0, "image %s of the base is not accounted for", old->name);
		while (order < 0) { /* redo: left over from a part that was applied */
			old = ++next < base->count ? &base->entry[next] : NULL;
			order = old == NULL ? 1 : strcmp(old->name, image.name);
		}
		if (order == 0)
			next++;
		if (image.removed && order != 0 && !redo)
			return epoch_fail(e, "base", 0, "image %s is removed but was not there", image.name);
		if (!image.removed && add_change(table, order == 0 ? old : NULL, &image, redo, e) != 0)
			return -1;
	}
	if (more == 0 && next < base->count && !redo)
		return epoch_fail(e, "base", 0, "image %s of the base is not accounted for", base->entry[next].name);
	return more;
}

struct images_table *images_table_next(const struct images_table *base, const struct epoch_section *section, int redo,
                                       struct epoch_error *e)
{
	struct images_table *table = images_table_empty();
	if (table == NULL) {
		epoch_fail(e, "space", ENOMEM, "no memory for the table of images");
		return NULL;
	}
	if (apply_changes(table, base, section, redo, e) == 0)
		return table;
	images_table_free(table);
	return NULL;
}

/* Read, not mapped: an image may have holes after a full disk, and a mapped hole of a full tmpfs kills the reader. */
static int read_at(int fd, uint8_t *out, uint64_t bytes, uint64_t at)
{
	for (uint64_t got = 0; got < bytes;) {
		ssize_t n = pread(fd, out + got, bytes - got, (off_t)(at + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n == 0 ? EIO : errno;
			return -1;
		}
		got += (uint64_t)n;
	}
	return 0;
}

static int read_blocks(int fd, const struct image_entry *entry)
{
	static _Thread_local uint8_t buffer[64 * BLOCK];
	for (uint64_t at = 0; at < entry->size;) {
		uint64_t want = entry->size - at < sizeof buffer ? entry->size - at : sizeof buffer;
		uint8_t *to = entry->small != NULL ? entry->small : buffer;
		if (read_at(fd, to, want, at) != 0)
			return -1;
		hash_blocks(to, want, entry->crc + at / BLOCK);
		at += want;
	}
	return 0;
}

static int read_image(struct images_table *table, int dirfd, const char *name, struct epoch_error *e)
{
	struct stat st;
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		return epoch_fail(e, "io", error, "cannot open image %s", name);
	}
	uint64_t size = (uint64_t)st.st_size;
	struct image_entry *entry = table_add(table, name, size);
	int result = entry != NULL ? 0 : epoch_fail(e, "space", ENOMEM, "no memory for the table of %s", name);
	if (result == 0 && read_blocks(fd, entry) != 0)
		result = epoch_fail(e, "io", errno, "cannot read image %s", name);
	close(fd);
	return result;
}

static int is_image(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);
	return entry->d_name[0] != '.' && length > 4 && strcmp(entry->d_name + length - 4, ".img") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

struct images_table *images_table_read(int dirfd, struct epoch_error *e)
{
	struct dirent **list = NULL;
	struct images_table *table = images_table_empty();
	int count = scandirat(dirfd, ".", &list, is_image, by_bytes), result = 0;
	if (table == NULL || count < 0)
		result = epoch_fail(e, "io", errno, "cannot read the directory of images");
	for (int i = 0; i < count; i++) {
		if (result == 0)
			result = read_image(table, dirfd, list[i]->d_name, e);
		free(list[i]);
	}
	free(list);
	if (result == 0)
		return table;
	images_table_free(table);
	return NULL;
}
