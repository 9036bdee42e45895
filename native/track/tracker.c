#include "track/tracker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "hook/pagemap_scan.h"
#include "track/inject.h"

enum {
	INJECTIONS_MAX = 32,  /* a refresh */
	SEEN_MIN = 2,         /* refreshes before a process that is not the first is worth it: most live shortly */
	PROCESSES_MAX = 255,  /* that hook/written.c remembers */
	AREAS_MAX = 1 << 19,  /* of all processes */
};

int track_negotiate(int fd)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED };
	return ioctl(fd, UFFDIO_API, &api);
}

/* ---- processes ---- */

void track_open(struct tracker *tracker, enum track_mode mode, bool verify)
{
	*tracker = (struct tracker){ .mode = mode, .verify = verify };
}

static void end_process(struct track_process *process)
{
	if (process->userfaultfd >= 0)
		close(process->userfaultfd);
	free(process->area);
}

void track_close(struct tracker *tracker)
{
	for (size_t i = 0; i < tracker->count; i++)
		end_process(&tracker->process[i]);
	free(tracker->process);
	tracker->process = NULL;
	tracker->count = tracker->room = 0;
}

static bool read_text(pid_t pid, const char *what, char *text, size_t size)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return false;
	text[got] = 0;
	return true;
}

static uint64_t started_at(pid_t pid)
{
	char text[1024];
	unsigned long long start = 0;
	if (!read_text(pid, "stat", text, sizeof text))
		return 0;
	char *after = strrchr(text, ')'); /* the name may hold anything */
	if (after == NULL || after[1] != ' ' ||
	    sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &start) != 1)
		return 0;
	return start;
}

/* The pid in the innermost namespace, by which CRIU's images are called. */
static pid_t inside_of(pid_t pid)
{
	char text[4096];
	if (!read_text(pid, "status", text, sizeof text))
		return -1;
	const char *line = strstr(text, "\nNSpid:");
	if (line == NULL)
		return -1;
	const char *last = memrchr(line + 1, '\t', strcspn(line + 1, "\n"));
	return last == NULL ? -1 : (pid_t)atol(last + 1);
}

static struct track_process *find_process(struct tracker *tracker, pid_t pid)
{
	uint64_t started = started_at(pid);
	for (size_t i = 0; i < tracker->count; i++)
		if (tracker->process[i].host == pid && tracker->process[i].started == started)
			return &tracker->process[i];
	if (started == 0)
		return NULL;
	if (tracker->count == tracker->room) {
		size_t room = tracker->room ? tracker->room * 2 : 8;
		struct track_process *grown = realloc(tracker->process, room * sizeof *grown);
		if (grown == NULL)
			return NULL;
		tracker->process = grown;
		tracker->room = room;
	}
	struct track_process *process = &tracker->process[tracker->count++];
	*process = (struct track_process){ .host = pid, .started = started, .userfaultfd = -1, .inside = inside_of(pid) };
	return process;
}

static void refuse(struct tracker *tracker, struct track_process *process, const char *why)
{
	if (process->refused[0] == 0 && tracker->refused != NULL)
		tracker->refused(process->inside, why);
	snprintf(process->refused, sizeof process->refused, "%s", why);
	if (process->userfaultfd >= 0)
		close(process->userfaultfd);
	process->userfaultfd = -1;
	process->areas = 0;
}

/* A process that is gone, or whose pid is another's now, leaves the list. */
static void remove_ended(struct tracker *tracker)
{
	size_t kept = 0;
	for (size_t i = 0; i < tracker->count; i++) {
		if (tracker->process[i].alive)
			tracker->process[kept++] = tracker->process[i];
		else
			end_process(&tracker->process[i]);
	}
	tracker->count = kept;
}

/* ---- areas ---- */

int track_maps_line(const char *line, struct area *out)
{
	char permissions[5];
	unsigned long start, end;
	unsigned long long inode;
	int path = 0;
	if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %llu %n", &start, &end, permissions, &inode, &path) < 4 || path == 0)
		return 0;
	/* Requests under way may write into memory without a fault. */
	if (strncmp(line + path, "/[aio]", 6) == 0)
		return -1;
	static const char *const kernels[] = { "[v", "[uprobes]", "[sigpage]" };
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
		if (strncmp(line + path, kernels[i], strlen(kernels[i])) == 0)
			return 0;
	/*
	 * Private mappings of files are not tracked. When a marked page of one is dropped, the kernel keeps the mark, and the page
	 * that a writer gets next begins with it, until the writer tries again: frozen in between it would be called unwritten.
	 */
	if (permissions[3] != 'p' || inode != 0 || end <= start)
		return 0;
	*out = (struct area){ .start = start, .end = end, .flags = memcmp(permissions, "---", 3) == 0 ? AREA_CLOSED : 0 };
	return 1;
}

struct area_list {
	struct area *area;
	size_t count, room;
};

static int add_area(struct area_list *list, const struct area *area)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 64;
		struct area *grown = room > AREAS_MAX ? NULL : realloc(list->area, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		list->area = grown;
		list->room = room;
	}
	list->area[list->count++] = *area;
	return 0;
}

/* Private writable areas as they are now. 0; 1: this process cannot be tracked; -1. */
static int read_areas(const struct track_process *process, struct area_list *out)
{
	char path[32], line[4400];
	snprintf(path, sizeof path, "/proc/%d/maps", (int)process->host);
	FILE *maps = fopen(path, "re");
	int result = maps == NULL ? -1 : 0;
	while (result == 0 && fgets(line, sizeof line, maps) != NULL) {
		struct area area;
		int kind = track_maps_line(line, &area);
		area.pid = (uint32_t)process->inside;
		if (kind < 0)
			result = 1;
		else if (kind > 0)
			result = add_area(out, &area);
	}
	if (maps != NULL)
		fclose(maps);
	return result;
}

/*
 * The marks of an area that was registered before may still be in its page tables: mremap() ends the registration of whatever
 * it merges with, and leaves the pages' marks; written pages would be called unwritten for ever. So all are taken away first.
 */
int track_register(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_register ask = { .range = { start, end - start }, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect clear = { .range = ask.range, .mode = 0 };
	if (ioctl(fd, UFFDIO_REGISTER, &ask) != 0)
		return -1;
	if (ioctl(fd, UFFDIO_WRITEPROTECT, &clear) == 0)
		return 0;
	int error = errno;
	(void)ioctl(fd, UFFDIO_UNREGISTER, &ask.range); /* then the kernel denies the area, or its marks are gone with this */
	errno = error;
	return -1;
}

/*
 * What of `now` the process's list covers already stays tracked; the rest is registered, and whole this time.
 *
 * Not so what nobody may read or write. It is address space kept for later, as glibc keeps 64 MiB for the heap of each thread, and empty:
 * to be dumped whole costs nothing. Tracked, each of its pages would get a mark, and CRIU, which opens and shuts such areas in the freeze,
 * paid for every mark twice: 0.9 ms each time for 64 MiB. What was tracked before it was closed has pages, and stays tracked.
 */
static int take_area(struct track_process *process, size_t *old, const struct area *now, struct area_list *out)
{
	uint64_t at = now->start;
	while (at < now->end) {
		while (*old < process->areas && process->area[*old].end <= at)
			(*old)++;
		const struct area *known = *old < process->areas ? &process->area[*old] : NULL;
		struct area piece = { .pid = now->pid, .start = at, .end = now->end };
		bool tracked = known != NULL && known->start <= at;
		if (tracked) {
			piece.end = known->end < now->end ? known->end : now->end;
		} else {
			piece.flags |= AREA_WHOLE;
			if (known != NULL && known->start < now->end)
				piece.end = known->start;
			if (now->flags & AREA_CLOSED) {
				at = piece.end;
				continue;
			}
			if (track_register(process->userfaultfd, piece.start, piece.end) != 0) {
				if (errno == ESRCH)
					return -1; /* another program, another address space */
				at = piece.end;
				continue; /* not of a kind that can be tracked: dumped whole */
			}
		}
		struct area *last = out->count > 0 ? &out->area[out->count - 1] : NULL;
		if (tracked && at > now->start && last != NULL && last->end == at && (last->flags & AREA_WHOLE) == 0)
			last->end = piece.end; /* what grew in steps is one area again */
		else if (add_area(out, &piece) != 0)
			return -1;
		at = piece.end;
	}
	return 0;
}

static int take_areas(struct track_process *process)
{
	struct area_list now = { 0 }, next = { 0 };
	size_t old = 0;
	int result = read_areas(process, &now);
	for (size_t i = 0; result == 0 && i < now.count; i++)
		result = take_area(process, &old, &now.area[i], &next);
	int error = errno;
	free(now.area);
	if (result == 0) {
		free(process->area);
		process->area = next.area;
		process->areas = next.count;
		process->room = next.room;
		return 0;
	}
	free(next.area);
	process->areas = 0;
	errno = error;
	return result;
}

static void begin_tracking(struct tracker *tracker, struct track_process *process, unsigned *injections)
{
	if (*injections == INJECTIONS_MAX || (tracker->refreshes > 1 && process->seen < SEEN_MIN))
		return;
	(*injections)++;
	process->areas = 0;
	process->userfaultfd = inject_userfaultfd(process->host);
	if (process->userfaultfd >= 0 && track_negotiate(process->userfaultfd) == 0)
		return;
	char why[96];
	snprintf(why, sizeof why, "no userfaultfd: %s", strerror(errno));
	if (errno != ESRCH)
		refuse(tracker, process, why);
	else if (process->userfaultfd >= 0)
		close(process->userfaultfd), process->userfaultfd = -1;
}

static void refresh_process(struct tracker *tracker, struct track_process *process, unsigned *injections)
{
	process->seen++;
	if (process->refused[0] != 0 || process->inside <= 0)
		return;
	/* Twice: the first may find that it has executed another program. */
	for (int attempt = 0; attempt < 2; attempt++) {
		if (process->userfaultfd < 0)
			begin_tracking(tracker, process, injections);
		if (process->userfaultfd < 0)
			return;
		int result = take_areas(process);
		if (result == 0)
			return;
		if (result > 0) {
			refuse(tracker, process, "asynchronous input is under way");
			return;
		}
		close(process->userfaultfd);
		process->userfaultfd = -1;
	}
}

/* Nothing has to be done to a process to see its soft-dirty bits. One that is new here is whole this time: its pid may have been another's. */
static void refresh_dirty(struct tracker *tracker, struct track_process *process)
{
	struct area_list now = { 0 };
	if (process->refused[0] != 0 || process->inside <= 0)
		return;
	int result = read_areas(process, &now);
	if (result > 0)
		refuse(tracker, process, "asynchronous input is under way");
	else if (result == 0 && track_clears_refs(process->host))
		refuse(tracker, process, "it has clear_refs open, which takes away soft-dirty bits");
	else if (result == 0) {
		for (size_t i = 0; i < now.count; i++)
			now.area[i].flags = process->known ? 0 : AREA_WHOLE;
		free(process->area);
		process->area = now.area;
		process->areas = now.count;
		process->room = now.room;
		process->known = true;
		return;
	}
	free(now.area);
	process->areas = 0;
	process->known = false;
}

/* ---- the list for the hook ---- */

static int by_pid(const void *a, const void *b)
{
	const struct track_process *x = a, *y = b;
	return x->inside < y->inside ? -1 : x->inside > y->inside;
}

static int write_list(const struct tracker *tracker, int images, bool whole)
{
	uint32_t flags = (tracker->verify ? AREAS_VERIFY : 0) | (tracker->quick ? AREAS_QUICK : 0) |
			 (tracker->mode == TRACK_SOFT_DIRTY ? AREAS_SOFT_DIRTY : 0) | (tracker->any_frame ? AREAS_ANY_FRAME : 0);
	struct areas_header header = { .magic = AREAS_MAGIC, .flags = flags,
				      .marker = tracker->marker };
	struct area_list list = { 0 };
	int result = 0;
	for (size_t i = 0; i < tracker->count; i++)
		for (size_t k = 0; result == 0 && k < tracker->process[i].areas; k++) {
			struct area area = tracker->process[i].area[k];
			area.flags |= whole ? AREA_WHOLE : 0;
			result = add_area(&list, &area);
		}
	header.count = list.count;
	header.crc = ft_crc32c(0, list.area, list.count * sizeof *list.area);
	size_t bytes = list.count * sizeof *list.area;
	int fd = openat(images, AREAS_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || result != 0 || write(fd, &header, sizeof header) != (ssize_t)sizeof header ||
	    (bytes > 0 && write(fd, list.area, bytes) != (ssize_t)bytes))
		result = -1;
	int error = errno;
	if (fd >= 0)
		close(fd);
	free(list.area);
	errno = error;
	return result;
}

/* What the last dump saw of the frames; without it, everything is dumped. */
static int hand_on_frames(const struct tracker *tracker, bool whole, int before, int images)
{
	if (tracker->mode != TRACK_SOFT_DIRTY)
		return 0;
	if (unlinkat(images, FRAMES_BEFORE_NAME, 0) != 0 && errno != ENOENT)
		return -1;
	if (whole || before < 0 || linkat(before, FRAMES_NAME, images, FRAMES_BEFORE_NAME, 0) == 0 || errno == ENOENT)
		return 0;
	return -1;
}

int track_refresh(struct tracker *tracker, const pid_t *pid, size_t pids, bool whole, int before, int images)
{
	unsigned injections = 0;
	if (tracker->mode == TRACK_FULL)
		return 0;
	tracker->refreshes++;
	for (size_t i = 0; i < tracker->count; i++)
		tracker->process[i].alive = false;
	for (size_t i = 0; i < pids && i < PROCESSES_MAX; i++) {
		struct track_process *process = find_process(tracker, pid[i]);
		if (process == NULL)
			continue; /* it has just ended, or there is no memory: dumped whole */
		process->alive = true;
		if (tracker->mode == TRACK_SOFT_DIRTY)
			refresh_dirty(tracker, process);
		else
			refresh_process(tracker, process, &injections);
	}
	remove_ended(tracker);
	if (tracker->count > 1)
		qsort(tracker->process, tracker->count, sizeof *tracker->process, by_pid);
	bool all = whole || tracker->doubt;
	tracker->doubt = true; /* until the dump is known to have worked */
	return hand_on_frames(tracker, all, before, images) != 0 ? -1 : write_list(tracker, images, all);
}

/* ---- after the dump ---- */

static int read_kept(int images, struct area **out, size_t *count)
{
	struct areas_header header;
	int fd = openat(images, KEPT_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	errno = EBADMSG;
	int result = -1;
	if (read(fd, &header, sizeof header) == (ssize_t)sizeof header && header.magic == KEPT_MAGIC &&
	    header.count < SIZE_MAX / sizeof **out) {
		size_t bytes = header.count * sizeof **out;
		*out = malloc(bytes + 1);
		*count = header.count;
		if (*out != NULL && (bytes == 0 || read(fd, *out, bytes) == (ssize_t)bytes) && ft_crc32c(0, *out, bytes) == header.crc)
			result = 0;
		else
			errno = *out == NULL ? ENOMEM : EBADMSG;
	}
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static void forget_area(struct tracker *tracker, const struct area *lost)
{
	for (size_t i = 0; i < tracker->count; i++) {
		struct track_process *process = &tracker->process[i];
		size_t kept = 0;
		if (process->inside != (pid_t)lost->pid)
			continue;
		for (size_t k = 0; k < process->areas; k++)
			if (process->area[k].start != lost->start || process->area[k].end != lost->end)
				process->area[kept++] = process->area[k];
		process->areas = kept;
	}
}

int track_collect(struct tracker *tracker, int images, struct area **kept, size_t *count)
{
	*kept = NULL;
	*count = 0;
	if (tracker->mode == TRACK_FULL)
		return 0;
	if (read_kept(images, kept, count) != 0) {
		free(*kept);
		*kept = NULL;
		return -1;
	}
	for (size_t i = 0; i < *count; i++)
		if ((*kept)[i].flags & KEPT_LOST)
			forget_area(tracker, &(*kept)[i]);
	for (size_t i = 0; i < tracker->count; i++)
		for (size_t k = 0; k < tracker->process[i].areas; k++)
			tracker->process[i].area[k].flags &= ~(uint32_t)AREA_WHOLE;
	(void)unlinkat(images, AREAS_NAME, 0); /* else they go with the directory */
	(void)unlinkat(images, KEPT_NAME, 0);
	(void)unlinkat(images, FRAMES_BEFORE_NAME, 0);
	tracker->doubt = false;
	return 0;
}

void track_doubt(struct tracker *tracker)
{
	tracker->doubt = true;
}

size_t track_watched(const struct tracker *tracker)
{
	size_t watched = 0;
	for (size_t i = 0; i < tracker->count; i++)
		watched += tracker->process[i].userfaultfd >= 0 || (tracker->mode == TRACK_SOFT_DIRTY && tracker->process[i].known);
	return watched;
}

void track_why_whole(const struct tracker *tracker, char *why, size_t size)
{
	size_t refused = 0;
	snprintf(why, size, "%s", tracker->mode == TRACK_FULL ? tracker->why : "");
	for (size_t i = 0; i < tracker->count; i++) {
		const struct track_process *process = &tracker->process[i];
		if (process->refused[0] == 0)
			continue;
		if (refused++ == 0)
			snprintf(why, size, "process %d: %s", (int)process->inside, process->refused);
	}
	size_t used = strlen(why);
	if (refused > 1)
		snprintf(why + used, size - used, ", and %zu more processes", refused - 1);
}
