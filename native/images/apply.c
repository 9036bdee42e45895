#include "images/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "disk/disk.h"
#include "images/parse.h"
#include "images/records.h"

static int io_error(struct epoch_error *e, const char *what, const char *name)
{
	int space = errno == ENOSPC || errno == EDQUOT || errno == ENOMEM;
	return epoch_fail(e, space ? "space" : errno == EBADMSG ? "corrupt" : "io", errno, "image %s: %s", name, what);
}

static int copy_range(int from, uint64_t source, int to, uint64_t offset, uint64_t length)
{
	off_t in = (off_t)source, out = (off_t)offset;
	while (length > 0) {
		ssize_t done = copy_file_range(from, &in, to, &out, length, 0);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			errno = done == 0 ? EIO : errno;
			return -1;
		}
		length -= (uint64_t)done;
	}
	return 0;
}

static int change_in_place(int dirfd, const struct image_change *image)
{
	int fd = openat(dirfd, image->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	int result = ftruncate(fd, (off_t)image->size);
	struct epoch_cursor extents = image->extents;
	struct image_extent x;
	while (result == 0 && image_extent_next(&extents, &x))
		result = disk_write_at(fd, x.bytes, x.length, x.offset);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

/* -1 with EBADMSG: the patch is for another image. Only its ranges are written, so a kill leaves nothing that they do not mend. */
static int write_ranges(int fd, const struct image_change *image)
{
	uint8_t bytes[IMAGE_PATCH_SIZE_MAX + 1];
	ssize_t got = pread(fd, bytes, sizeof bytes, 0);
	if (got < 0)
		return -1;
	if ((uint64_t)got == image->size)
		image_ranges_apply(image->ranges, bytes);
	if ((uint64_t)got != image->size || ft_crc32c(0, bytes, image->size) != image->crc) {
		errno = EBADMSG;
		return -1;
	}
	struct image_ranges ranges = image->ranges;
	struct image_range range;
	while (image_range_next(&ranges, &range))
		if (disk_write_at(fd, range.bytes, range.length, range.offset) != 0)
			return -1;
	return 0;
}

static int patch(int dirfd, const struct image_change *image)
{
	int fd = openat(dirfd, image->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int result = write_ranges(fd, image), error = errno;
	close(fd);
	errno = error;
	return result;
}

static int build(int from, int to, const struct image_change *image)
{
	struct epoch_cursor extents = image->extents;
	struct image_extent x;
	uint64_t next = 0;
	if (ftruncate(to, (off_t)image->size) != 0)
		return -1;
	while (image_extent_next(&extents, &x)) {
		if (x.offset > next && copy_range(from, next, to, next, x.offset - next) != 0)
			return -1;
		if (x.bytes != NULL ? disk_write_at(to, x.bytes, x.length, x.offset) != 0
		                    : copy_range(from, x.source, to, x.offset, x.length) != 0)
			return -1;
		next = x.offset + x.length;
	}
	return next < image->size ? copy_range(from, next, to, next, image->size - next) : 0;
}

static int change_aside(int dirfd, const struct image_change *image)
{
	char aside[272];
	snprintf(aside, sizeof aside, "%s.new", image->name);
	int from = openat(dirfd, image->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return -1;
	int to = openat(dirfd, aside, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int result = to < 0 ? -1 : build(from, to, image);
	if (result == 0)
		result = renameat(dirfd, aside, dirfd, image->name);
	int error = errno;
	if (to >= 0)
		close(to);
	if (result != 0)
		unlinkat(dirfd, aside, 0);
	close(from);
	errno = error;
	return result;
}

/* 1: the file is what the image shall be; 0: it is not. */
static int at_goal(int dirfd, const struct image_change *image)
{
	struct stat st;
	int fd = openat(dirfd, image->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), equal = 0;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size == image->size) {
		static _Thread_local uint8_t buffer[256 << 10];
		uint32_t crc = 0;
		uint64_t at = 0;
		ssize_t got;
		while ((got = pread(fd, buffer, sizeof buffer, (off_t)at)) > 0) {
			crc = ft_crc32c(crc, buffer, (size_t)got);
			at += (uint64_t)got;
		}
		equal = got == 0 && at == image->size && crc == image->crc;
	}
	close(fd);
	return equal;
}

static int change(int dirfd, const struct image_change *image, int redo)
{
	if (image->patched)
		return image->ranges.at == image->ranges.end ? 0 : patch(dirfd, image);
	if (!image->has_data && !image->has_copy && image->size == image->base_size)
		return 0;
	if (!image->has_copy)
		return change_in_place(dirfd, image);
	return redo && at_goal(dirfd, image) ? 0 : change_aside(dirfd, image);
}

int images_apply(int dirfd, const struct epoch_section *section, int redo, struct epoch_error *e)
{
	struct epoch_cursor c = epoch_cursor_of(section);
	struct image_change image = {.name = ""};
	int more;
	while ((more = image_change_next(&c, &image, e)) == 1) {
		if (image.removed) {
			if (unlinkat(dirfd, image.name, 0) != 0 && errno != ENOENT)
				return io_error(e, "cannot be removed", image.name);
			continue;
		}
		if (change(dirfd, &image, redo) != 0)
			return io_error(e, "cannot be written", image.name);
	}
	return more;
}

uint64_t images_apply_needs(const struct epoch_section *section)
{
	struct epoch_cursor c = epoch_cursor_of(section);
	struct image_change image = {.name = ""};
	uint64_t bytes = 0;
	while (image_change_next(&c, &image, NULL) == 1) {
		uint64_t before = image.base_size == IMAGE_NO_BASE || image.has_copy ? 0 : image.base_size;
		if (!image.removed && image.size > before)
			bytes += image.size - before + EPOCH_BLOCK_BYTES;
	}
	return bytes;
}
