#include "hook/images.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/whole.h"

enum { IMAGES_MAX = 4096, NUMBERS_MAX = 8192, NAME_BYTES_MAX = 48, NONE = -1 };

/* In the room, followed by its bytes; the next is padded to where one may stand. */
struct piece {
	uint32_t length, next; /* where the next of the same image is; 0: it is the last */
};

struct image {
	char name[NAME_BYTES_MAX];
	mode_t mode;
	int fd; /* NONE: CRIU has closed it */
	uint32_t first, last;
};

static struct {
	struct image image[IMAGES_MAX];
	size_t count;
	int16_t of[NUMBERS_MAX]; /* an image's place + 1, by CRIU's descriptor */
	unsigned char *room;
	size_t used, size;
	int directory, nothing; /* the images'; what CRIU is given */
	int known; /* a number that CRIU has of the same directory; NONE: none is known */
	bool ready, failed, full;
} state = { .directory = -1, .nothing = -1, .known = NONE };

bool images_prepare(int directory, size_t bytes)
{
	_Static_assert(IMAGES_MAX < INT16_MAX, "a place fits");
	state.room = bytes < UINT32_MAX ? malloc(bytes) : NULL;
	/* Neither read nor written can it be, nor looked into for pages. */
	state.nothing = (int)syscall(SYS_openat, directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (state.room == NULL || state.nothing < 0)
		return false;
	memset(state.room, 0, bytes);
	memset(state.image, 0, sizeof state.image / 8); /* touched now, not in the freeze */
	memset(state.of, 0, sizeof state.of);
	state.size = bytes;
	state.used = sizeof(struct piece); /* 0 is no place */
	state.directory = directory;
	state.ready = true;
	state.full = false;
	return true;
}

static bool is_kept(const char *name)
{
	static const char *const kinds[] = { "core-", "ids-", "fs-", "mm-", "pagemap-", "fdinfo-", "tcp-stream-", "files.img", "pstree.img", "seccomp.img" };
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strncmp(name, kinds[i], strlen(kinds[i])) == 0)
			return strlen(name) < NAME_BYTES_MAX && strchr(name, '/') == NULL;
	return false;
}

static bool is_the_images(int directory)
{
	struct stat theirs, ours;
	if (directory == state.known)
		return true;
	if (directory < 0 || fstat(directory, &theirs) != 0 || fstat(state.directory, &ours) != 0 || theirs.st_ino != ours.st_ino ||
	    theirs.st_dev != ours.st_dev)
		return false;
	state.known = directory;
	return true;
}

int images_open(int directory, const char *name, int flags, mode_t mode)
{
	static const int writes = O_WRONLY | O_CREAT | O_TRUNC;
	if (!state.ready || state.failed || (flags & ~O_CLOEXEC) != writes || state.count == IMAGES_MAX || !is_kept(name) ||
	    !is_the_images(directory))
		return -1;
	int fd = (int)syscall(SYS_fcntl, state.nothing, (flags & O_CLOEXEC) ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (fd >= NUMBERS_MAX)
		syscall(SYS_close, fd);
	if (fd < 0 || fd >= NUMBERS_MAX)
		return -1;
	struct image *image = &state.image[state.count++];
	*image = (struct image){ .mode = mode, .fd = fd };
	memcpy(image->name, name, strlen(name) + 1);
	state.of[fd] = (int16_t)state.count;
	return fd;
}

static struct image *image_of(int fd)
{
	int place = fd >= 0 && fd < NUMBERS_MAX ? state.of[fd] : 0;
	return place == 0 ? NULL : &state.image[place - 1];
}

/* ---- becoming a file ---- */

/* The file, with what is kept; -1 with errno. */
static int make_file(const struct image *image)
{
	struct piece piece;
	int fd = (int)syscall(SYS_openat, state.directory, image->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, image->mode);
	for (uint32_t at = image->first; fd >= 0 && at != 0; at = piece.next) {
		memcpy(&piece, state.room + at, sizeof piece);
		if (whole_write(fd, state.room + at + sizeof piece, piece.length))
			continue;
		int error = errno;
		syscall(SYS_close, fd);
		errno = error;
		return -1;
	}
	return fd;
}

/* CRIU's descriptor is the file's from now on. */
static bool stop_keeping(struct image *image)
{
	int file = make_file(image);
	bool done = file >= 0 && syscall(SYS_dup3, file, image->fd, 0) == image->fd;
	if (file >= 0)
		syscall(SYS_close, file);
	state.failed |= !done;
	state.full = true;
	state.of[image->fd] = 0;
	image->fd = NONE;
	image->name[0] = 0; /* is one */
	return done;
}

bool images_save(void)
{
	for (size_t i = 0; i < state.count; i++) {
		struct image *image = &state.image[i];
		if (image->fd != NONE) {
			(void)stop_keeping(image);
			continue;
		}
		int file = image->name[0] == 0 ? NONE : make_file(image);
		if (file >= 0)
			syscall(SYS_close, file);
		else if (image->name[0] != 0)
			state.failed = true;
	}
	free(state.room);
	state.room = NULL;
	state.count = 0;
	state.ready = false;
	return !state.failed;
}

/* ---- writing ---- */

static bool keep(struct image *image, const struct iovec *vector, int count, size_t length)
{
	struct piece piece = { .length = (uint32_t)length }, last;
	size_t padded = (sizeof piece + length + sizeof piece - 1) / sizeof piece * sizeof piece;
	if (length > UINT32_MAX / 2 || padded > state.size - state.used)
		return false;
	uint32_t at = (uint32_t)state.used;
	memcpy(state.room + at, &piece, sizeof piece);
	state.used += sizeof piece;
	for (int i = 0; i < count; i++) {
		memcpy(state.room + state.used, vector[i].iov_base, vector[i].iov_len);
		state.used += vector[i].iov_len;
	}
	state.used = at + padded;
	if (image->first == 0) {
		image->first = at;
	} else {
		memcpy(&last, state.room + image->last, sizeof last);
		last.next = at;
		memcpy(state.room + image->last, &last, sizeof last);
	}
	image->last = at;
	return true;
}

bool images_take(int fd, const struct iovec *vector, int count, ssize_t *written)
{
	struct image *image = image_of(fd);
	size_t length = 0;
	if (image == NULL || count < 0 || count > IOV_MAX)
		return false;
	for (int i = 0; i < count; i++)
		length += vector[i].iov_len;
	if (!keep(image, vector, count, length)) {
		(void)stop_keeping(image); /* if that fails, so does what CRIU does next */
		return false;
	}
	*written = (ssize_t)length;
	return true;
}

bool images_all_kept(void)
{
	return !state.full;
}

void images_closed(int fd)
{
	if (fd == state.known)
		state.known = NONE;
	struct image *image = image_of(fd);
	if (image == NULL)
		return;
	image->fd = NONE;
	state.of[fd] = 0;
}
