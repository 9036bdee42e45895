#include "hook/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/flags.h"
#include "hook/smaps.h"

enum {
	THREADS_MAX = 1024,
	TEXTS_MAX = 2 * THREADS_MAX + 64,
	FILES_MAX = 4096,
	NAMES_BYTES = 256 << 10, /* of open descriptors */
	REGIONS_MAX = 1024,
	TEXT_BYTES_MAX = 32 << 20,
	TEXT_BYTES = 16 << 10,
};

enum rule { RULE_SAME, RULE_STAT, RULE_STATUS, RULE_SMAPS, RULE_COMPOSED };

struct text {
	char path[64]; /* from the process's folder, or absolute */
	enum rule rule;
	char *seen, *now; /* both of `room` bytes, a zero at the end */
	size_t length, room;
};

struct mapped_file {
	char path[64];
	dev_t device;
	ino_t inode;
	off_t size;
	nlink_t links;
	mode_t mode;
};

static const char *const spaces[] = { "ns/pid", "ns/net", "ns/ipc", "ns/uts", "ns/time", "ns/mnt", "ns/user", "ns/cgroup" };
enum { SPACES = sizeof spaces / sizeof *spaces };

static struct {
	int folder; /* /proc/PID */
	pid_t thread[THREADS_MAX];
	size_t threads;
	struct text text[TEXTS_MAX];
	size_t texts;
	struct mapped_file file[FILES_MAX];
	size_t files;
	int list_fd;
	DIR *list;
	bool listed;
	char *names, *names_now;
	size_t names_length;
	ino_t space[SPACES];
	bool scanned;
	struct pm_scan_arg asked, answered;
	struct page_region *region, *region_now;
	long regions;
	pid_t current; /* whose folder CRIU opened last */
	struct flags_view areas, areas_now; /* where flags_can() */
} state = { .folder = -1, .list_fd = -1 };

static int open_at(int folder, const char *path, int flags)
{
	return (int)syscall(SYS_openat, folder, path, flags | O_CLOEXEC, 0);
}

static bool read_spaces(ino_t out[SPACES])
{
	for (size_t i = 0; i < SPACES; i++) {
		struct stat found;
		out[i] = fstatat(state.folder, spaces[i], &found, 0) == 0 ? found.st_ino : 0;
	}
	return out[0] != 0;
}

bool witness_begin(pid_t target)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/%d", (int)target);
	state.folder = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY);
	state.names = malloc(NAMES_BYTES);
	state.names_now = malloc(NAMES_BYTES);
	state.region = calloc(REGIONS_MAX, sizeof *state.region);
	state.region_now = calloc(REGIONS_MAX, sizeof *state.region);
	return state.folder >= 0 && state.names != NULL && state.names_now != NULL && state.region != NULL &&
	       state.region_now != NULL && read_spaces(state.space);
}

bool witness_thread(pid_t tid)
{
	char path[32];
	struct stat found;
	snprintf(path, sizeof path, "task/%d", (int)tid);
	if (state.threads == THREADS_MAX || fstatat(state.folder, path, &found, 0) != 0)
		return false;
	state.thread[state.threads++] = tid;
	return true;
}

bool witness_has_thread(pid_t tid)
{
	for (size_t i = 0; i < state.threads; i++)
		if (state.thread[i] == tid)
			return true;
	return false;
}

/* ---- texts ---- */

/* Reads a file whole: the length, or -1. The room grows if it may; all is made present by being filled. */
static ssize_t read_text(const struct text *text, char **room, size_t *size, bool grows)
{
	int fd = open_at(state.folder, text->path, O_RDONLY);
	size_t length = 0;
	if (fd < 0)
		return -1;
	for (;;) {
		if (length + TEXT_BYTES > *size) {
			size_t more = *size * 2 + 2 * TEXT_BYTES;
			char *grown = grows && more <= TEXT_BYTES_MAX ? realloc(*room, more) : NULL;
			if (grown == NULL)
				break;
			*room = grown;
			*size = more;
		}
		ssize_t got = read(fd, *room + length, TEXT_BYTES - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			syscall(SYS_close, fd);
			(*room)[length] = 0;
			return got < 0 ? -1 : (ssize_t)length;
		}
		length += (size_t)got;
		if (text->rule == RULE_SMAPS) {
			/* The rest of an unfinished line stays as it is: it is filtered with what follows. */
			char *last = memrchr(*room, '\n', length);
			size_t whole = last == NULL ? 0 : (size_t)(last - *room) + 1, rest = length - whole;
			size_t kept = smaps_filter(*room, whole);
			memmove(*room + kept, *room + whole, rest);
			length = kept + rest;
		}
	}
	syscall(SYS_close, fd);
	return -1;
}

static int give(const struct text *text)
{
	int fd = (int)syscall(SYS_memfd_create, "witness", MFD_CLOEXEC);
	if (fd >= 0 && (write(fd, text->seen, text->length) != (ssize_t)text->length || lseek(fd, 0, SEEK_SET) != 0)) {
		syscall(SYS_close, fd);
		return -1;
	}
	return fd;
}

/* Instead of smaps, if all flags are known by name. */
static ssize_t compose_smaps(struct text *text)
{
	if (!flags_see_all(state.folder, &state.areas) || !flags_room(&state.areas_now, state.areas.length))
		return -1;
	size_t room = state.areas.room * 2;
	text->seen = malloc(room);
	size_t length = text->seen == NULL ? 0 : flags_compose(&state.areas, text->seen, room);
	if (length == 0) {
		free(text->seen);
		text->seen = NULL;
		return -1;
	}
	text->rule = RULE_COMPOSED;
	text->room = room;
	return (ssize_t)length;
}

static enum witness_answer take(const char *path, enum rule rule, int *fd)
{
	if (state.texts == TEXTS_MAX)
		return WITNESS_UNKNOWN;
	struct text *text = &state.text[state.texts];
	memset(text, 0, sizeof *text);
	if ((size_t)snprintf(text->path, sizeof text->path, "%s", path) >= sizeof text->path)
		return WITNESS_UNKNOWN;
	text->rule = rule;
	ssize_t length = rule == RULE_SMAPS && flags_can() ? compose_smaps(text) : -1;
	if (length < 0)
		length = read_text(text, &text->seen, &text->room, true);
	text->now = length < 0 ? NULL : malloc(text->room);
	if (text->now == NULL) {
		free(text->seen);
		return WITNESS_UNKNOWN;
	}
	memset(text->now, 0, text->room); /* touched now, not in the freeze */
	text->length = (size_t)length;
	*fd = give(text);
	if (*fd < 0) {
		free(text->seen);
		free(text->now);
		return WITNESS_UNKNOWN;
	}
	state.texts++;
	return WITNESS_GIVEN;
}

static bool is_number(const char *text)
{
	return text[0] != 0 && text[strspn(text, "0123456789")] == 0;
}

static bool is_area(const char *path)
{
	size_t from = strspn(path, "0123456789abcdef");
	return from > 0 && path[from] == '-' && path[from + 1] != 0 && path[from + 1 + strspn(path + from + 1, "0123456789abcdef")] == 0;
}

static enum witness_answer take_of_thread(const char *name, enum rule rule, int *fd)
{
	char path[64];
	if (!witness_has_thread(state.current))
		return WITNESS_UNKNOWN;
	snprintf(path, sizeof path, "task/%d/%s", (int)state.current, name);
	return take(path, rule, fd);
}

enum witness_answer witness_open(int directory, const char *path, int flags, int *fd)
{
	(void)directory;
	if ((flags & O_CREAT) != 0 || strcmp(path, "/") == 0 || strncmp(path, "fdinfo/", 7) == 0)
		return WITNESS_PLAIN; /* an image, the root, a descriptor of CRIU's own */
	if (is_number(path)) {
		state.current = (pid_t)strtol(path, NULL, 10);
		return WITNESS_PLAIN;
	}
	if (strcmp(path, "mountinfo") == 0)
		return take("/proc/self/mountinfo", RULE_SAME, fd); /* CRIU's, who is in the same */
	if (strcmp(path, "status") == 0)
		return take_of_thread(path, RULE_STATUS, fd);
	if (state.threads == 0 || state.current != state.thread[0])
		return WITNESS_UNKNOWN;
	if (strcmp(path, "stat") == 0)
		return take(path, RULE_STAT, fd);
	if (strcmp(path, "smaps") == 0)
		return take(path, RULE_SMAPS, fd);
	if (strcmp(path, "timers") == 0)
		return take(path, RULE_SAME, fd);
	/* Who is listed is compared by name: threads, children, descriptors. */
	if (strcmp(path, "task") == 0 || strncmp(path, "task/", 5) == 0 || strcmp(path, "fd") == 0 || strcmp(path, "map_files") == 0)
		return WITNESS_PLAIN;
	return is_area(path) || strcmp(path, "pagemap") == 0 ? WITNESS_PLAIN : WITNESS_UNKNOWN;
}

/* ---- files, folders, pages ---- */

static bool look_at(const char *path, struct mapped_file *out)
{
	struct stat found;
	if (fstatat(state.folder, path, &found, 0) != 0)
		return false;
	*out = (struct mapped_file){ .device = found.st_dev, .inode = found.st_ino, .size = found.st_size,
				     .links = found.st_nlink, .mode = found.st_mode };
	return true;
}

static bool same_file(const struct mapped_file *a, const struct mapped_file *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size && a->links == b->links && a->mode == b->mode;
}

void witness_opened(const char *path, int fd)
{
	if (fd >= 0 && strcmp(path, "fd") == 0)
		state.list_fd = fd;
	if (fd < 0 || !is_area(path))
		return;
	struct stat found;
	struct mapped_file *file = &state.file[state.files < FILES_MAX ? state.files : 0];
	if (state.files == FILES_MAX || fstat(fd, &found) != 0) {
		state.files = FILES_MAX + 1; /* too many to be known */
		return;
	}
	if (state.files > FILES_MAX)
		return;
	*file = (struct mapped_file){ .device = found.st_dev, .inode = found.st_ino, .size = found.st_size,
				      .links = found.st_nlink, .mode = found.st_mode };
	snprintf(file->path, sizeof file->path, "map_files/%.40s", path);
	state.files++;
}

void witness_listing(int fd, DIR *list)
{
	if (fd != state.list_fd || list == NULL)
		return;
	state.list = list;
	state.list_fd = -1;
	state.names_length = 0;
	state.listed = true;
}

static bool add_name(char *names, size_t *length, const char *name)
{
	size_t more = strlen(name) + 1;
	if (name[0] == '.')
		return true;
	if (*length + more > NAMES_BYTES)
		return false;
	memcpy(names + *length, name, more);
	*length += more;
	return true;
}

void witness_entry(DIR *list, const char *name)
{
	if (list != state.list || list == NULL)
		return;
	if (name == NULL)
		state.list = NULL; /* the end */
	else if (!add_name(state.names, &state.names_length, name))
		state.names_length = NAMES_BYTES + 1;
}

bool witness_scan(const struct pm_scan_arg *asked, const struct pm_scan_arg *answered, long count)
{
	if (state.scanned || count < 0 || count > REGIONS_MAX)
		return false;
	state.scanned = true;
	state.asked = *asked;
	state.answered = *answered;
	state.regions = count;
	memcpy(state.region, (const void *)(uintptr_t)asked->vec, (size_t)count * sizeof *state.region);
	return true;
}

/* ---- afterwards ---- */

/* The names in a folder, each with a zero. */
static bool list_names(const char *path, char *names, size_t *length)
{
	char buffer[TEXT_BYTES];
	int fd = open_at(state.folder, path, O_RDONLY | O_DIRECTORY);
	bool whole = fd >= 0;
	*length = 0;
	while (whole) {
		long got = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
		if (got <= 0) {
			whole = got == 0;
			break;
		}
		for (long at = 0; at < got && whole;) {
			const struct dirent64 *entry = (const void *)(buffer + at);
			whole = add_name(names, length, entry->d_name);
			at += entry->d_reclen;
		}
	}
	if (fd >= 0)
		syscall(SYS_close, fd);
	return whole;
}

static const char *check_threads(void)
{
	size_t length, found = 0;
	if (!list_names("task", state.names_now, &length))
		return "threads";
	for (size_t at = 0; at < length; at += strlen(state.names_now + at) + 1, found++)
		if (!witness_has_thread((pid_t)strtol(state.names_now + at, NULL, 10)))
			return "threads";
	return found == state.threads ? NULL : "threads";
}

static const char *check_children(void)
{
	for (size_t i = 0; i < state.threads; i++) {
		char path[48], byte;
		snprintf(path, sizeof path, "task/%d/children", (int)state.thread[i]);
		int fd = open_at(state.folder, path, O_RDONLY);
		ssize_t got = fd < 0 ? -1 : read(fd, &byte, 1);
		if (fd >= 0)
			syscall(SYS_close, fd);
		if (got != 0)
			return "children";
	}
	return NULL;
}

static const char *check_descriptors(void)
{
	size_t length;
	if (!state.listed)
		return NULL;
	if (state.list != NULL || !list_names("fd", state.names_now, &length) || length != state.names_length ||
	    memcmp(state.names, state.names_now, length) != 0)
		return "descriptors";
	return NULL;
}

static bool same_text(struct text *text)
{
	if (text->rule == RULE_COMPOSED)
		return flags_see(state.folder, &state.areas_now) && flags_same(&state.areas, &state.areas_now);
	ssize_t length = read_text(text, &text->now, &text->room, false);
	if (length < 0)
		return false;
	switch (text->rule) {
	case RULE_STAT:
		return witness_same_stat(text->seen, text->now);
	case RULE_STATUS:
		return witness_same_status(text->seen, text->now);
	default:
		break;
	}
	return (size_t)length == text->length && memcmp(text->seen, text->now, text->length) == 0;
}

const char *witness_check_guards(void)
{
	if (!state.scanned)
		return NULL;
	struct pm_scan_arg ask = state.asked;
	ask.vec = (uintptr_t)state.region_now;
	if (ask.vec_len > REGIONS_MAX)
		ask.vec_len = REGIONS_MAX;
	int fd = open_at(state.folder, "pagemap", O_RDONLY);
	long count = fd < 0 ? -1 : syscall(SYS_ioctl, fd, PAGEMAP_SCAN, &ask);
	if (fd >= 0)
		syscall(SYS_close, fd);
	bool same = count == state.regions && ask.walk_end == state.answered.walk_end &&
		    memcmp(state.region, state.region_now, (size_t)count * sizeof *state.region) == 0;
	return same ? NULL : "guard pages";
}

static bool is_of_areas(const struct text *text)
{
	return text->rule == RULE_SMAPS || text->rule == RULE_COMPOSED;
}

const char *witness_check_tasks(void)
{
	const char *moved = check_threads();
	if (moved == NULL)
		moved = check_descriptors();
	if (moved == NULL)
		moved = check_children();
	for (size_t i = 0; moved == NULL && i < state.texts; i++)
		if (state.text[i].rule == RULE_STATUS && !same_text(&state.text[i]))
			moved = state.text[i].path;
	return moved;
}

const char *witness_check_rest(void)
{
	const char *moved = NULL;
	ino_t space[SPACES];
	if (!read_spaces(space) || memcmp(space, state.space, sizeof space) != 0)
		moved = "namespaces";
	for (size_t i = 0; moved == NULL && i < state.texts; i++)
		if (state.text[i].rule != RULE_STATUS && !is_of_areas(&state.text[i]) && !same_text(&state.text[i]))
			moved = state.text[i].path;
	return moved;
}

static const char *check_files(void)
{
	if (state.files > FILES_MAX)
		return "too many mapped files";
	for (size_t i = 0; i < state.files; i++) {
		struct mapped_file now;
		if (!look_at(state.file[i].path, &now) || !same_file(&state.file[i], &now))
			return "a mapped file";
	}
	return NULL;
}

static const char *check_areas(void)
{
	for (size_t i = 0; i < state.texts; i++) {
		struct text *text = &state.text[i];
		if (!is_of_areas(text))
			continue;
		if (!same_text(text))
			return "memory areas";
		/* The next dump need not read it. */
		if (text->rule == RULE_SMAPS && flags_see(state.folder, &state.areas_now))
			flags_learn(&state.areas_now, text->now);
	}
	return NULL;
}

const char *witness_check_memory(void)
{
	const char *moved = check_areas();
	return moved != NULL ? moved : check_files();
}

size_t witness_descriptors(const char **names)
{
	*names = state.names;
	return state.listed && state.list == NULL && state.names_length <= NAMES_BYTES ? state.names_length : 0;
}

ssize_t witness_sockets(uint32_t *inode, size_t max)
{
	size_t count = 0;
	if (!state.listed || state.list != NULL || state.names_length > NAMES_BYTES)
		return -1;
	for (size_t at = 0; at < state.names_length; at += strlen(state.names + at) + 1) {
		char path[24], link[32];
		static const char kind[] = "socket:[";
		snprintf(path, sizeof path, "fd/%.16s", state.names + at);
		ssize_t length = readlinkat(state.folder, path, link, sizeof link - 1);
		if (length < 0)
			return -1;
		link[length] = 0;
		if (strncmp(link, kind, sizeof kind - 1) != 0)
			continue;
		if (count == max)
			return -1;
		inode[count++] = (uint32_t)strtoul(link + sizeof kind - 1, NULL, 10);
	}
	return (ssize_t)count;
}

bool witness_composed(void)
{
	for (size_t i = 0; i < state.texts; i++)
		if (state.text[i].rule == RULE_COMPOSED)
			return true;
	return false;
}

/* ---- rules ---- */

/* Fields from 1; the name, which may have spaces, is the second. */
static bool field_counts(int field)
{
	/* State, flags, faults and times, size, resident set, stack and instruction pointer, signals, channel, processor, delays,
	 * and the exit code, which of a stopped task is why it stopped. */
	return !(field == 3 || (field >= 9 && field <= 17) || field == 23 || field == 24 || (field >= 29 && field <= 32) || field == 35 ||
		 field == 39 || (field >= 42 && field <= 44) || field == 52);
}

bool witness_same_stat(const char *before, const char *after)
{
	const char *a = strrchr(before, ')'), *b = strrchr(after, ')');
	if (a == NULL || b == NULL || a - before != b - after || memcmp(before, after, (size_t)(a - before)) != 0)
		return false;
	a++;
	b++;
	for (int field = 3; *a == ' ' || *b == ' '; field++) {
		size_t x = strcspn(a + 1, " \n"), y = strcspn(b + 1, " \n");
		if (*a != *b || (field_counts(field) && (x != y || memcmp(a + 1, b + 1, x) != 0)))
			return false;
		a += 1 + x;
		b += 1 + y;
	}
	return true;
}

/* The line that begins with `name`, its newline included; length 0: there is none. */
static size_t find_line(const char *text, const char *name, const char **out)
{
	size_t length = strlen(name);
	for (const char *at = text; *at != 0;) {
		size_t line = strcspn(at, "\n");
		if (strncmp(at, name, length) == 0) {
			*out = at;
			return line + 1;
		}
		at += line + (at[line] == '\n');
	}
	*out = text;
	return 0;
}

static uint64_t mask_of(const char *text, const char *name)
{
	const char *line;
	return find_line(text, name, &line) == 0 ? UINT64_MAX : strtoull(line + strlen(name), NULL, 16);
}

bool witness_same_status(const char *before, const char *after)
{
	static const char *const names[] = { "Tgid:", "PPid:", "NSpid:", "Seccomp:", "Seccomp_filters:" };
	/* SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU: CRIU has to know of them. */
	static const uint64_t stops = 1ull << 18 | 1ull << 19 | 1ull << 20 | 1ull << 21;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *a, *b;
		size_t x = find_line(before, names[i], &a), y = find_line(after, names[i], &b);
		if (x != y || memcmp(a, b, x) != 0)
			return false;
	}
	return ((mask_of(before, "SigPnd:") | mask_of(before, "ShdPnd:") | mask_of(after, "SigPnd:") | mask_of(after, "ShdPnd:")) & stops) == 0;
}
