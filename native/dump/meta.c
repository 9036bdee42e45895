#include "dump/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crc/crc32c.h"

static const char *const pipe_names[3] = { "stdin", "stdout", "stderr" };

int meta_format(const struct meta *meta, char *text, size_t size)
{
	size_t length = (size_t)snprintf(text, size, "ftctl-meta 1\napp_pid %d\n", (int)meta->app_pid);
	for (int i = 0; i < 3 && length < size; i++) {
		char pipe[40] = "-";
		if (meta->pipe_ino[i] != 0)
			snprintf(pipe, sizeof pipe, "pipe:[%" PRIu64 "]", meta->pipe_ino[i]);
		length += (size_t)snprintf(text + length, size - length, "%s %s\n", pipe_names[i], pipe);
	}
	if (length < size)
		length += (size_t)snprintf(text + length, size - length, "monotonic_ns %" PRIu64 "\n",
					   meta->monotonic_ns);
	if (length >= size)
		return -1;
	uint32_t crc = ft_crc32c(0, text, length);
	length += (size_t)snprintf(text + length, size - length, "crc32c %08" PRIx32 "\n", crc);
	return length < size ? (int)length : -1;
}

/* Only what meta_format() writes is valid, so parsing is: read the numbers, format them again, compare. */
int meta_parse(const char *text, size_t length, struct meta *out)
{
	char copy[META_BYTES_MAX], again[META_BYTES_MAX];
	char pipe[3][40];
	if (length == 0 || length >= sizeof copy)
		goto bad;
	memcpy(copy, text, length);
	copy[length] = 0;
	int app_pid;
	memset(out, 0, sizeof *out);
	if (sscanf(copy, "ftctl-meta 1 app_pid %9d stdin %39s stdout %39s stderr %39s monotonic_ns %19" SCNu64, &app_pid,
		   pipe[0], pipe[1], pipe[2], &out->monotonic_ns) != 5)
		goto bad;
	if (app_pid < 2)
		goto bad;
	out->app_pid = (pid_t)app_pid;
	for (int i = 0; i < 3; i++)
		if (strcmp(pipe[i], "-") != 0 && sscanf(pipe[i], "pipe:[%19" SCNu64 "]", &out->pipe_ino[i]) != 1)
			goto bad;
	if (meta_format(out, again, sizeof again) == (int)length && memcmp(again, text, length) == 0)
		return 0;
bad:
	errno = EBADMSG;
	return -1;
}

int meta_write(int directory, const struct meta *meta)
{
	char text[META_BYTES_MAX];
	int length = meta_format(meta, text, sizeof text);
	if (length < 0) {
		errno = EOVERFLOW;
		return -1;
	}
	int fd = openat(directory, META_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	ssize_t written = write(fd, text, (size_t)length);
	int error = written < 0 ? errno : ENOSPC;
	close(fd);
	errno = error;
	return written == length ? 0 : -1;
}

int meta_read(int directory, struct meta *out)
{
	char text[META_BYTES_MAX];
	int fd = openat(directory, META_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -1;
	ssize_t got = read(fd, text, sizeof text);
	int error = errno;
	close(fd);
	errno = error;
	return got < 0 ? -1 : meta_parse(text, (size_t)got, out);
}
