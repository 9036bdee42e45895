#include "dump/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc/proc.h"

enum { TEXT_BYTES_MAX = 64 * 1024 };

static void add_children(struct tree *tree, char *text)
{
	char *rest = NULL;
	for (char *word = strtok_r(text, " \n", &rest); word != NULL; word = strtok_r(NULL, " \n", &rest)) {
		if (tree->processes == TREE_PROCESSES_MAX) {
			tree->truncated = true;
			return;
		}
		tree->pid[tree->processes++] = (pid_t)atol(word);
	}
}

/* The state follows the last ')' of the thread's stat line: a name may hold anything. */
static char state_of(const char *stat)
{
	const char *end = strrchr(stat, ')');
	return end != NULL && end[1] == ' ' ? end[2] : '?';
}

static int read_process(struct tree *tree, pid_t pid)
{
	char path[320], text[TEXT_BYTES_MAX];
	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	if (tasks == NULL)
		return -1;
	for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/proc/%d/task/%s/stat", (int)pid, entry->d_name);
		if (proc_text(path, text, sizeof text) <= 0)
			continue; /* the thread has just ended */
		tree->threads++;
		tree->traced += state_of(text) == 't';
		snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)pid, entry->d_name);
		if (proc_text(path, text, sizeof text) > 0)
			add_children(tree, text);
	}
	closedir(tasks);
	return 0;
}

int tree_read(struct tree *tree, pid_t root)
{
	tree->processes = 1;
	tree->threads = tree->traced = 0;
	tree->truncated = false;
	tree->pid[0] = root;
	for (size_t i = 0; i < tree->processes; i++)
		if (read_process(tree, tree->pid[i]) != 0 && i == 0) {
			errno = ESRCH;
			return -1;
		}
	return 0;
}

/* A newline in a name is written \012; everything else as it is. */
static void decode_path(char *path)
{
	char *to = path;
	for (const char *from = path; *from != 0 && *from != '\n';) {
		int newline = strncmp(from, "\\012", 4) == 0;
		*to++ = newline ? '\n' : *from;
		from += newline ? 4 : 1;
	}
	*to = 0;
}

bool tree_maps_line(char *line, struct files_use *out)
{
	char permissions[5];
	unsigned major_number, minor_number;
	unsigned long long inode;
	int path = 0;
	if (sscanf(line, "%*x-%*x %4s %*x %x:%x %llu %n", permissions, &major_number, &minor_number, &inode, &path) < 4)
		return false;
	if (permissions[3] != 's' || inode == 0 || path == 0 || line[path] != '/')
		return false;
	/* Shared memory without a name is part of the memory images. */
	static const char *const anonymous[] = { "/dev/zero (deleted)", "/SYSV", "/memfd:", "/[aio]" };
	for (size_t i = 0; i < sizeof anonymous / sizeof *anonymous; i++)
		if (strncmp(line + path, anonymous[i], strlen(anonymous[i])) == 0)
			return false;
	decode_path(line + path);
	*out = (struct files_use){ .ino = inode, .path = line + path, .mapped = permissions[1] == 'w' };
	return true;
}

static bool is_deleted(const char *path)
{
	static const char mark[] = " (deleted)";
	size_t bytes = strlen(path);
	return bytes >= sizeof mark && strcmp(path + bytes + 1 - sizeof mark, mark) == 0;
}

/*
 * The name by which it was opened is gone. Without any other it is no file of the container's any more: false. With one, an
 * overlay may show neither its path nor its number: whatever it is, it has to be looked for.
 */
static bool has_lost_its_name(struct tree_uses *uses, const struct stat *st)
{
	if (st->st_nlink > 0)
		uses->doubt = "an open file has lost the name by which it was opened, and has another";
	return st->st_nlink > 0;
}

/* -1 when there is no more room. */
static int add_use(struct tree_uses *uses, const struct files_use *use)
{
	size_t bytes = strlen(use->path) + 1;
	for (size_t i = 0; i < uses->count; i++)
		if (uses->use[i].ino == use->ino && uses->use[i].mapped >= use->mapped && strcmp(uses->use[i].path, use->path) == 0)
			return 0;
	if (uses->count == TREE_USES_MAX || bytes > sizeof uses->text - uses->text_bytes) {
		errno = ENFILE;
		return -1;
	}
	char *path = memcpy(uses->text + uses->text_bytes, use->path, bytes);
	uses->text_bytes += bytes;
	uses->use[uses->count++] = (struct files_use){ .ino = use->ino, .path = path, .mapped = use->mapped };
	return 0;
}

static int read_mapped(struct tree_uses *uses, pid_t pid)
{
	char path[128], line[8192];
	int result = 0;
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(path, "re");
	if (maps == NULL)
		return 0; /* it has just ended */
	while (result == 0 && fgets(line, sizeof line, maps) != NULL) {
		struct files_use use;
		struct stat st;
		if (!tree_maps_line(line, &use))
			continue;
		snprintf(path, sizeof path, "/proc/%d/map_files/%.*s", (int)pid, (int)strcspn(line, " "), line);
		if (is_deleted(use.path) && stat(path, &st) == 0 && !has_lost_its_name(uses, &st))
			continue;
		result = add_use(uses, &use);
	}
	int error = errno;
	fclose(maps);
	errno = error;
	return result;
}

/* One descriptor: a regular file open for writing? The mode of the link in /proc says how it is open. */
static void read_open(struct tree_uses *uses, int directory, const char *number)
{
	char path[4096];
	struct stat file, link;
	if (fstatat(directory, number, &file, 0) != 0 || !S_ISREG(file.st_mode))
		return;
	ssize_t bytes = readlinkat(directory, number, path, sizeof path - 1);
	if (bytes < 0 || fstatat(directory, number, &link, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno == ENOENT)
			return; /* closed meanwhile: by CRIU's parasite, as the task itself stands */
		uses->doubt = "an open file cannot be looked at";
		return;
	}
	path[bytes] = 0;
	if ((link.st_mode & S_IWUSR) != 0 && is_deleted(path) && !has_lost_its_name(uses, &file))
		return;
	const struct files_use use = { .ino = file.st_ino, .path = path };
	if ((link.st_mode & S_IWUSR) != 0 && add_use(uses, &use) != 0)
		uses->doubt = "more files are open than are kept track of";
}

static void read_descriptors(struct tree_uses *uses, pid_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	DIR *listing = opendir(path);
	if (listing == NULL) {
		uses->doubt = "the open files of a process cannot be read";
		return;
	}
	for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
		if (entry->d_name[0] != '.')
			read_open(uses, dirfd(listing), entry->d_name);
	closedir(listing);
}

int tree_uses_read(const struct tree *tree, struct tree_uses *uses)
{
	uses->count = uses->text_bytes = 0;
	uses->doubt = tree->truncated ? "the application has more processes than are kept track of" : NULL;
	for (size_t i = 0; i < tree->processes; i++)
		if (read_mapped(uses, tree->pid[i]) != 0)
			return -1;
	for (size_t i = 0; i < tree->processes; i++)
		read_descriptors(uses, tree->pid[i]);
	return 0;
}

/* The last number of "NSpid:\t8129\t7": the pid in the innermost namespace. */
static pid_t innermost(const char *status)
{
	const char *line = strstr(status, "\nNSpid:");
	if (line == NULL)
		return -1;
	size_t length = strcspn(line + 1, "\n");
	const char *last = memrchr(line + 1, '\t', length);
	return last == NULL ? -1 : (pid_t)atol(last + 1);
}

pid_t tree_child_called(pid_t parent, pid_t inside)
{
	static struct tree children; /* of one level only; too large for a stack */
	char path[64], text[TEXT_BYTES_MAX];
	children.processes = 0;
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
	if (proc_text(path, text, sizeof text) < 0)
		return -1;
	add_children(&children, text);
	for (size_t i = 0; i < children.processes; i++) {
		snprintf(path, sizeof path, "/proc/%d/status", (int)children.pid[i]);
		if (proc_text(path, text, sizeof text) > 0 && innermost(text) == inside)
			return children.pid[i];
	}
	errno = ESRCH;
	return -1;
}
