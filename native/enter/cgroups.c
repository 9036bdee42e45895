/*
 * A restored process inherits the cgroups of the CRIU that made it, so that CRIU must be in the container's: else
 * limits would not hold and stopping the agent's own service would stop the application.
 */
#include "enter/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proc/proc.h"

enum { PROC_TEXT_BYTES_MAX = 256 * 1024 };

static bool has_word(const char *list, size_t list_length, const char *word, size_t length)
{
	for (const char *at = list, *end = list + list_length; at < end;) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		size_t word_length = (size_t)((comma != NULL ? comma : end) - at);
		if (word_length == length && memcmp(at, word, length) == 0)
			return true;
		at += word_length + 1;
	}
	return false;
}

/* "cpu,cpuacct" and "name=systemd" are both one word of the mount's options when we look at the first. */
static bool line_matches(const char *line, size_t length, const char *controllers)
{
	const char *separator = memmem(line, length, " - ", 3);
	if (separator == NULL)
		return false;
	const char *kind = separator + 3, *end = line + length;
	if (*controllers == 0)
		return (size_t)(end - kind) > 8 && memcmp(kind, "cgroup2 ", 8) == 0;
	if ((size_t)(end - kind) <= 7 || memcmp(kind, "cgroup ", 7) != 0)
		return false;
	const char *options = memrchr(kind, ' ', (size_t)(end - kind));
	return has_word(options + 1, (size_t)(end - options - 1), controllers, strcspn(controllers, ","));
}

int enter_cgroup_mount(const char *mountinfo, const char *controllers, char *out, size_t size)
{
	for (const char *line = mountinfo; *line != 0;) {
		size_t length = strcspn(line, "\n");
		char root[PATH_MAX];
		if (line_matches(line, length, controllers) &&
		    sscanf(line, "%*d %*d %*s %4095s", root) == 1) {
			if (sscanf(line, "%*d %*d %*s %*s %4095s", root) != 1 || strlen(root) >= size)
				return -1;
			strcpy(out, root);
			return 0;
		}
		line += length + (line[length] == '\n');
	}
	errno = ENOENT;
	return -1;
}

static int join_one(const char *mount, const char *path)
{
	char file[PATH_MAX];
	if ((size_t)snprintf(file, sizeof file, "%s%s/cgroup.procs", mount, path) >= sizeof file) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t written = write(fd, "0", 1);
	int error = errno;
	close(fd);
	errno = error;
	return written == 1 ? 0 : -1;
}

int enter_cgroups(pid_t pid)
{
	static char mountinfo[PROC_TEXT_BYTES_MAX], groups[16 * 1024];
	char file[64];
	snprintf(file, sizeof file, "/proc/%d/cgroup", (int)pid);
	if (proc_text(file, groups, sizeof groups) < 0 || proc_text("/proc/self/mountinfo", mountinfo, sizeof mountinfo) < 0)
		return -1;
	int joined = 0;
	for (char *line = groups, *next; *line != 0; line = next) {
		next = line + strcspn(line, "\n");
		if (*next == '\n')
			*next++ = 0;
		char *controllers = strchr(line, ':');
		char *path = controllers != NULL ? strchr(++controllers, ':') : NULL;
		if (path == NULL)
			continue;
		*path++ = 0;
		char mount[PATH_MAX];
		/* A hierarchy that is not mounted on the host cannot hold a limit of the container. */
		if (enter_cgroup_mount(mountinfo, controllers, mount, sizeof mount) != 0)
			continue;
		if (join_one(mount, path) != 0)
			return -1;
		joined++;
	}
	if (joined == 0)
		errno = ENOENT;
	return joined > 0 ? 0 : -1;
}
