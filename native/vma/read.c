#include "vma/link.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t vma_read(int link, struct vma *out, size_t max)
{
	union bpf_attr ask;
	memset(&ask, 0, sizeof ask);
	ask.iter_create.link_fd = (uint32_t)link;
	int fd = (int)syscall(SYS_bpf, BPF_ITER_CREATE, &ask, sizeof ask);
	if (fd < 0)
		return -1;
	size_t bytes = 0, room = max * sizeof *out;
	ssize_t got = 1;
	while (got > 0 && bytes < room) {
		got = read(fd, (char *)out + bytes, room - bytes);
		if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
			got = 1; /* the kernel gives up its processor now and then */
			continue;
		}
		bytes += got > 0 ? (size_t)got : 0;
	}
	int error = got < 0 ? errno : got > 0 ? ENOSPC : bytes % sizeof *out != 0 ? EPROTO : 0;
	syscall(SYS_close, fd);
	errno = error;
	return error != 0 ? -1 : (ssize_t)(bytes / sizeof *out);
}
