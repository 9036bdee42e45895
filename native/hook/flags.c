#include "hook/flags.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crc/crc32c.h"

#define LIST_NAME "ftctl-flags"
#define LIST_MAGIC 0x3147414c46415446ull /* FTAFLAG1 */
/* An area that is in maps and is none of the kernel's: the gate area. */
#define NO_VMA UINT64_MAX

enum { KNOWN_MAX = 256, NAME_BYTES = 120, MAPS_BYTES_MIN = 64 << 10, VMA_BYTES_OF_MAPS = 16 /* at least, a line has more */, GROWTHS_MAX = 8 };

struct known {
	uint64_t flags;
	char name[NAME_BYTES]; /* the whole line, "VmFlags: rd mr mw me \n" */
};

struct list_header {
	uint64_t magic;
	uint32_t count, crc;
};

static struct {
	int link;
	const char *folder;
	struct known known[KNOWN_MAX];
	uint32_t count;
	bool learnt;
} state = { .link = -1 };

static int open_list(const char *suffix, int flags)
{
	char path[128];
	if ((size_t)snprintf(path, sizeof path, "%s/" LIST_NAME "%s", state.folder, suffix) >= sizeof path)
		return -1;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

void flags_load(int link, const char *folder)
{
	struct list_header header;
	state.link = link;
	state.folder = folder;
	state.count = 0;
	int fd = link < 0 || folder == NULL ? -1 : open_list("", O_RDONLY);
	if (fd < 0)
		return;
	if (read(fd, &header, sizeof header) == (ssize_t)sizeof header && header.magic == LIST_MAGIC && header.count <= KNOWN_MAX) {
		size_t bytes = header.count * sizeof *state.known;
		if (read(fd, state.known, bytes) == (ssize_t)bytes && ft_crc32c(0, state.known, bytes) == header.crc)
			state.count = header.count;
	}
	for (uint32_t i = 0; i < state.count; i++)
		state.known[i].name[NAME_BYTES - 1] = 0;
	syscall(SYS_close, fd);
}

bool flags_can(void)
{
	return state.link >= 0 && state.folder != NULL;
}

bool flags_room(struct flags_view *view, size_t maps_bytes)
{
	size_t room = MAPS_BYTES_MIN + 2 * maps_bytes;
	size_t most = room / VMA_BYTES_OF_MAPS;
	char *maps = realloc(view->maps, room);
	view->maps = maps != NULL ? maps : view->maps;
	struct vma *vma = realloc(view->vma, most * sizeof *vma);
	view->vma = vma != NULL ? vma : view->vma;
	view->room = maps == NULL ? 0 : room;
	view->vma_max = vma == NULL ? 0 : most;
	if (maps == NULL || vma == NULL)
		return false;
	memset(maps, 0, room);
	memset(vma, 0, most * sizeof *vma);
	return true;
}

static bool read_maps(int folder, struct flags_view *view)
{
	int fd = (int)syscall(SYS_openat, folder, "maps", O_RDONLY | O_CLOEXEC, 0);
	ssize_t got = fd < 0 ? -1 : 1;
	view->length = 0;
	while (got > 0 && view->length + 1 < view->room) {
		got = read(fd, view->maps + view->length, view->room - 1 - view->length);
		if (got < 0 && errno == EINTR)
			got = 1;
		else
			view->length += got > 0 ? (size_t)got : 0;
	}
	if (fd >= 0)
		syscall(SYS_close, fd);
	if (view->room > 0)
		view->maps[view->length] = 0;
	if (got > 0)
		errno = ENOSPC;
	return got == 0;
}

bool flags_see(int folder, struct flags_view *view)
{
	if (!flags_can() || !read_maps(folder, view))
		return false;
	ssize_t count = vma_read(state.link, view->vma, view->vma_max);
	view->count = count < 0 ? 0 : (size_t)count;
	return count > 0;
}

bool flags_same(const struct flags_view *a, const struct flags_view *b)
{
	return a->length == b->length && a->count == b->count && memcmp(a->maps, b->maps, a->length) == 0 &&
	       memcmp(a->vma, b->vma, a->count * sizeof *a->vma) == 0;
}

bool flags_see_all(int folder, struct flags_view *view)
{
	for (int attempt = 0; attempt < GROWTHS_MAX; attempt++) {
		if (!flags_room(view, view->room) || !flags_can())
			return false;
		if (flags_see(folder, view))
			return true;
		if (errno != ENOSPC)
			return false;
	}
	return false;
}

static const struct known *find(uint64_t flags)
{
	for (uint32_t i = 0; i < state.count; i++)
		if (state.known[i].flags == flags)
			return &state.known[i];
	return NULL;
}

/* The flags of the area whose line this is, by which *at goes on. False: maps and the kernel's areas are of two moments. */
static bool flags_of(const struct flags_view *view, const char *line, size_t *at, uint64_t *flags)
{
	char *rest;
	uint64_t start = strtoull(line, &rest, 16), end = *rest == '-' ? strtoull(rest + 1, NULL, 16) : 0;
	if (*at < view->count && view->vma[*at].start == start && view->vma[*at].end == end) {
		*flags = view->vma[(*at)++].flags;
		return true;
	}
	static const char gate[] = "[vsyscall]";
	size_t length = strcspn(line, "\n");
	*flags = NO_VMA;
	return length >= sizeof gate - 1 && memcmp(line + length - (sizeof gate - 1), gate, sizeof gate - 1) == 0;
}

size_t flags_compose(const struct flags_view *view, char *out, size_t size)
{
	size_t at = 0, used = 0;
	for (const char *line = view->maps; *line != 0;) {
		uint64_t flags;
		size_t length = strcspn(line, "\n") + 1;
		const struct known *known = flags_of(view, line, &at, &flags) ? find(flags) : NULL;
		size_t name = known == NULL ? 0 : strlen(known->name);
		if (known == NULL || line[length - 1] != '\n' || used + length + name >= size)
			return 0;
		memcpy(out + used, line, length);
		memcpy(out + used + length, known->name, name);
		used += length + name;
		line += length;
	}
	if (at != view->count)
		return 0;
	out[used] = 0;
	return used;
}

void flags_learn(const struct flags_view *view, const char *smaps)
{
	size_t at = 0;
	for (const char *line = smaps; *line != 0;) {
		uint64_t flags;
		const char *name = line + strcspn(line, "\n") + 1;
		size_t length = name[-1] == '\n' ? strcspn(name, "\n") + 1 : 0;
		if (length < 2 || strncmp(name, "VmFlags:", 8) != 0 || !flags_of(view, line, &at, &flags))
			return;
		if (find(flags) == NULL && length < NAME_BYTES && state.count < KNOWN_MAX) {
			struct known *known = &state.known[state.count++];
			memset(known, 0, sizeof *known);
			known->flags = flags;
			memcpy(known->name, name, length);
			state.learnt = true;
		}
		line = name + length;
	}
}

void flags_save(void)
{
	if (!state.learnt)
		return;
	size_t bytes = state.count * sizeof *state.known;
	const struct list_header header = { .magic = LIST_MAGIC, .count = state.count, .crc = ft_crc32c(0, state.known, bytes) };
	int fd = open_list(".new", O_WRONLY | O_CREAT | O_TRUNC);
	bool whole = fd >= 0 && write(fd, &header, sizeof header) == (ssize_t)sizeof header &&
		     write(fd, state.known, bytes) == (ssize_t)bytes;
	if (fd >= 0)
		syscall(SYS_close, fd);
	char from[128], to[128];
	snprintf(from, sizeof from, "%s/" LIST_NAME ".new", state.folder);
	snprintf(to, sizeof to, "%s/" LIST_NAME, state.folder);
	if (whole) /* refused: it is learnt again */
		(void)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
