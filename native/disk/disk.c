#include "disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int disk_write_at(int fd, const void *bytes, uint64_t length, uint64_t offset)
{
	const uint8_t *from = bytes;
	while (length > 0) {
		ssize_t done = pwrite(fd, from, length, (off_t)offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			errno = done == 0 ? EIO : errno;
			return -1;
		}
		from += done;
		length -= (uint64_t)done;
		offset += (uint64_t)done;
	}
	return 0;
}

/* Opened anew, as a duplicate would share its position with the descriptor that we were given. */
DIR *disk_list(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	if (list == NULL && fd >= 0) {
		int error = errno;
		close(fd);
		errno = error;
	}
	return list;
}
