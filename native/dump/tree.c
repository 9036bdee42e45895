#include "dump/tree.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

bool tree_maps_line(const char *line, struct files_inode_id *out)
{
	char permissions[5];
	unsigned major_number, minor_number;
	unsigned long long inode;
	int path = 0;
	if (sscanf(line, "%*x-%*x %4s %*x %x:%x %llu %n", permissions, &major_number, &minor_number, &inode, &path) < 4)
		return false;
	if (permissions[1] != 'w' || permissions[3] != 's' || inode == 0 || path == 0 || line[path] != '/')
		return false;
	/* Shared memory without a name is part of the memory images. */
	static const char *const anonymous[] = { "/dev/zero (deleted)", "/SYSV", "/memfd:" };
	for (size_t i = 0; i < sizeof anonymous / sizeof *anonymous; i++)
		if (strncmp(line + path, anonymous[i], strlen(anonymous[i])) == 0)
			return false;
	/* An overlay's maps may show another device than the upper directory has. */
	*out = (struct files_inode_id){ .dev = 0, .ino = inode };
	return true;
}

static int add_mapped(struct files_inode_id id, struct files_inode_id *out, size_t *count)
{
	for (size_t i = 0; i < *count; i++)
		if (out[i].ino == id.ino && out[i].dev == id.dev)
			return 0;
	if (*count == TREE_MAPPED_MAX) {
		errno = ENFILE;
		return -1;
	}
	out[(*count)++] = id;
	return 0;
}

int tree_mapped(const struct tree *tree, struct files_inode_id *out, size_t *count)
{
	*count = 0;
	for (size_t i = 0; i < tree->processes; i++) {
		char path[64], line[8192];
		snprintf(path, sizeof path, "/proc/%d/maps", (int)tree->pid[i]);
		FILE *maps = fopen(path, "re");
		if (maps == NULL)
			continue; /* it has just ended */
		int result = 0;
		while (result == 0 && fgets(line, sizeof line, maps) != NULL) {
			struct files_inode_id id;
			if (tree_maps_line(line, &id))
				result = add_mapped(id, out, count);
		}
		int error = errno;
		fclose(maps);
		errno = error;
		if (result != 0)
			return -1;
	}
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
