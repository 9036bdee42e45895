#include "proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

ssize_t proc_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size_t length = 0;
	ssize_t got = 1;
	while (length + 1 < size && got != 0) {
		got = read(fd, text + length, size - 1 - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		length += (size_t)got;
	}
	int error = errno;
	close(fd);
	errno = error;
	text[length] = 0;
	return got < 0 ? -1 : (ssize_t)length;
}
