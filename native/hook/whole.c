#include "hook/whole.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

bool whole_read(int fd, void *room, size_t length)
{
	for (size_t at = 0; at < length;) {
		long got = syscall(SYS_read, fd, (char *)room + at, length - at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		at += (size_t)got;
	}
	return true;
}

bool whole_write(int fd, const void *bytes, size_t length)
{
	for (size_t at = 0; at < length;) {
		long done = syscall(SYS_write, fd, (const char *)bytes + at, length - at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		at += (size_t)done;
	}
	return true;
}
