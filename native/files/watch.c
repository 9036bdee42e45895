/*
 * What changed, from the kernel: one fanotify group with a mark on the file system of every root. The mark is on the file system
 * and not on directories, so that there is no directory that could have been forgotten; what does not belong to a root is known by
 * its handle and dropped.
 *
 * Why what was told is all that can have changed (docs/ARCHITECTURE.md, "The files of one epoch", says it at length):
 *  - A name appears, disappears or changes its meaning only by a call that tells of its directory, before it returns.
 *  - Metadata and attributes change only by calls that tell of the inode, before they return.
 *  - Content changes by calls that tell of the inode (write, truncate, fallocate), or through a file open for writing: splice into an
 *    overlay, asynchronous I/O and mappings tell nothing. Such a file is either still open when the tasks are frozen, and
 *    files_scan() is given all of those, or its last reference has gone, which tells FAN_CLOSE_WRITE.
 *  - A directory whose handle is not known has come since the last scan: then it, or one above it, has come by a name in a known
 *    directory, and is read whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "files/index.h"

#define MARK (FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE_WRITE | FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR)
#define NAMES (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)
#define INODES (FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE_WRITE)
#define WATCH_BUFFER_BYTES 65536u

static void doubt(struct files_index *index, const char *why)
{
	if (index->doubt == NULL)
		index->doubt = why;
}

/* ---- reading ---- */

struct heard {
	struct file_id dir, inode; /* bytes 0: not said */
	const char *name;
	int malformed;
};

/* What the kernel writes is packed: nothing in it need be aligned, so everything is copied out. */
static int read_id(const char *at, const char *end, struct file_id *to)
{
	struct file_handle head;
	if ((size_t)(end - at) < sizeof head)
		return -1;
	memcpy(&head, at, sizeof head);
	if (head.handle_bytes > (size_t)(end - at) - sizeof head || head.handle_bytes == 0)
		return -1;
	to->type = head.handle_type;
	/* No inode of ours is called by a longer one, or it would not have been learnt. */
	to->bytes = head.handle_bytes <= FILE_ID_BYTES_MAX ? head.handle_bytes : 0;
	memcpy(to->handle, at + sizeof head, to->bytes);
	return (int)(sizeof head + head.handle_bytes);
}

static int hear_one(const struct fanotify_event_info_header *info, const char *at, const char *end, struct heard *out)
{
	if (info->info_type == FAN_EVENT_INFO_TYPE_FID)
		return read_id(at, end, &out->inode) < 0 ? -1 : 0;
	if (info->info_type != FAN_EVENT_INFO_TYPE_DFID_NAME)
		return 0;
	int bytes = read_id(at, end, &out->dir);
	out->name = at + bytes;
	return bytes < 0 || memchr(out->name, 0, (size_t)(end - out->name)) == NULL ? -1 : 0;
}

static void hear(const char *at, const char *end, struct heard *out)
{
	struct fanotify_event_info_header info;
	const size_t head = offsetof(struct fanotify_event_info_fid, handle);
	*out = (struct heard){0};
	while (at < end && !out->malformed) {
		out->malformed = (size_t)(end - at) < head;
		if (out->malformed)
			return;
		memcpy(&info, at, sizeof info);
		out->malformed = info.len < head || info.len > (size_t)(end - at) || hear_one(&info, at + head, at + info.len, out) != 0;
		at += info.len;
	}
}

/* `name` "": the inode itself. What no root knows is not ours, or new and below something that is told of. */
static void tell(struct files_index *index, const struct file_id *id, const char *name)
{
	for (size_t i = 0; i < index->roots && id->bytes != 0; i++) {
		const struct inode *inode = inode_find_id(&index->root[i], id);
		if (inode != NULL && told_add(&index->told, (uint32_t)i, inode->meta.ino, name) != 0)
			doubt(index, errno == E2BIG ? "more was changed than is kept track of" : "no memory for what was changed");
	}
}

static void take(struct files_index *index, const struct fanotify_event_metadata *event, const char *at)
{
	struct heard heard;
	if (event->fd >= 0)
		close(event->fd);
	if (event->vers != FANOTIFY_METADATA_VERSION || (event->mask & FAN_Q_OVERFLOW) != 0) {
		doubt(index, (event->mask & FAN_Q_OVERFLOW) != 0 ? "the kernel's queue ran over" : "the kernel speaks another version");
		return;
	}
	hear(at + event->metadata_len, at + event->event_len, &heard);
	/* A handle that the kernel could not make (no memory) is empty. */
	int named = heard.name != NULL && strcmp(heard.name, ".") != 0;
	if (heard.malformed || ((event->mask & NAMES) != 0 && !named)) {
		doubt(index, "the kernel told of something without saying what");
		return;
	}
	if ((event->mask & NAMES) != 0)
		tell(index, &heard.dir, heard.name);
	if ((event->mask & INODES) == 0)
		return;
	if (heard.inode.bytes != 0)
		tell(index, &heard.inode, "");
	else if (heard.name != NULL)
		tell(index, &heard.dir, named ? heard.name : "");
	else
		doubt(index, "the kernel told of something without saying what");
}

/* The next event of a buffer, or 0 at its end. */
static int next_event(const char **at, const char *end, struct fanotify_event_metadata *out, const char **event)
{
	if ((size_t)(end - *at) < sizeof *out)
		return 0;
	memcpy(out, *at, sizeof *out);
	if (out->event_len < sizeof *out || out->metadata_len > out->event_len || out->event_len > (size_t)(end - *at))
		return 0;
	*event = *at;
	*at += out->event_len;
	return 1;
}

/* As many as are in the queue now, and no more: others on the host may write for ever. */
void watch_drain(struct files_index *index)
{
	static _Thread_local char buffer[WATCH_BUFFER_BYTES];
	int bytes = 0;
	if (index->watch < 0)
		return;
	if (ioctl(index->watch, FIONREAD, &bytes) != 0) {
		doubt(index, "the kernel's queue cannot be read");
		return;
	}
	for (int left = bytes / (int)FAN_EVENT_METADATA_LEN; left > 0;) {
		struct fanotify_event_metadata event;
		const char *at = buffer, *here;
		ssize_t got = read(index->watch, buffer, sizeof buffer);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			doubt(index, "the kernel's queue cannot be read");
			return;
		}
		for (; next_event(&at, buffer + got, &event, &here); left--)
			take(index, &event, here);
		if (at != buffer + got)
			doubt(index, "the kernel told of something without saying what");
	}
}

/* ---- setting up ---- */

/*
 * Everything that changes there is done by this kernel, and an event calls an inode by the same handle as name_to_handle_at() does.
 * Only what native/files/test has run on: were the handles others, everything told would be taken for somebody else's.
 */
static int is_local(const struct statfs *fs)
{
	static const unsigned long known[] = {EXT4_SUPER_MAGIC, TMPFS_MAGIC};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if ((unsigned long)fs->f_type == known[i])
			return 1;
	return 0;
}

static const char *why_not(const struct files_index *index, const struct root *root)
{
	struct {
		struct file_handle head;
		uint8_t room[FILE_ID_BYTES_MAX];
	} handle = {.head.handle_bytes = FILE_ID_BYTES_MAX};
	struct statfs fs;
	int mount;
	if (fstatfs(root->fd, &fs) != 0 || !is_local(&fs))
		return "its file system is neither ext4 nor tmpfs, on which this was tried";
	if (name_to_handle_at(root->fd, "", &handle.head, &mount, AT_EMPTY_PATH) != 0)
		return "its file system has no file handles";
	if (fanotify_mark(index->watch, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, MARK, root->fd, ".") != 0)
		return "the kernel does not watch its file system";
	return NULL;
}

/* One write through an overlay and one close: Linux before 6.5 tells nothing of either below. */
static int overlay_tells(int group, int directory)
{
	struct fanotify_event_metadata event;
	char buffer[4096];
	const uint64_t wanted = FAN_CREATE | FAN_MODIFY | FAN_CLOSE_WRITE;
	uint64_t mask = 0;
	int fd = openat(directory, "try", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0;
	int wrote = write(fd, "x", 1) == 1;
	close(fd);
	for (ssize_t got; wrote && (got = read(group, buffer, sizeof buffer)) > 0;) {
		const char *at = buffer, *here;
		while (next_event(&at, buffer + got, &event, &here))
			mask |= event.mask;
	}
	return (mask & wanted) == wanted;
}

static int mount_overlay(const char *below)
{
	static const char *const layers[] = {"lowerdir", "upperdir", "workdir"};
	char path[512];
	int fs = (int)syscall(SYS_fsopen, "overlay", 1u /* FSOPEN_CLOEXEC */), result = fs < 0 ? -1 : 0;
	for (size_t i = 0; i < 3 && result == 0; i++) {
		snprintf(path, sizeof path, "%s/%s", below, layers[i]);
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			result = -1;
		else
			result = (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, layers[i], path, 0);
	}
	if (result == 0)
		result = (int)syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (result == 0)
		result = (int)syscall(SYS_fsmount, fs, 1u /* FSMOUNT_CLOEXEC */, 0);
	if (fs >= 0)
		close(fs);
	return result;
}

static void remove_trial(const char *below)
{
	static const char *const left[] = {"upperdir/try", "workdir/work", "lowerdir", "upperdir", "workdir", ""};
	char path[512];
	for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
		snprintf(path, sizeof path, "%s/%s", below, left[i]);
		(void)remove(path); /* what is left of it disturbs nobody */
	}
}

static int probe_overlay(const char *scratch)
{
	char below[256];
	int result = 0;
	if (snprintf(below, sizeof below, "%s/watch-try", scratch) >= (int)sizeof below || (mkdir(below, 0700) != 0 && errno != EEXIST))
		return 0;
	int mounted = mount_overlay(below);
	int group = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME | FAN_REPORT_FID, O_RDONLY);
	if (mounted >= 0 && group >= 0 && fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, MARK, AT_FDCWD, below) == 0)
		result = overlay_tells(group, mounted);
	if (mounted >= 0)
		close(mounted);
	if (group >= 0)
		close(group);
	remove_trial(below);
	return result;
}

int files_watch(struct files_index *index, const char *scratch)
{
	int watched = 0, overlay = -1, error = 0;
	index->watch = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME | FAN_REPORT_FID, O_RDONLY);
	if (index->watch < 0)
		return -1;
	for (size_t i = 0; i < index->roots; i++) {
		struct root *root = &index->root[i];
		if (root->kind == FILES_UPPER && overlay < 0)
			overlay = probe_overlay(scratch);
		root->unwatched = root->kind == FILES_UPPER && !overlay ? "the kernel does not tell of writes through an overlay" : why_not(index, root);
		error = root->unwatched != NULL ? errno : error;
		watched += root->unwatched == NULL;
	}
	index->doubt = "the first epoch";
	if (watched > 0)
		return 0;
	watch_close(index);
	errno = error ? error : ENOENT;
	return -1;
}

const char *files_unwatched(const struct files_index *index, size_t root, const char **name)
{
	if (root >= index->roots) {
		*name = NULL;
		return NULL;
	}
	*name = index->root[root].name;
	return index->root[root].unwatched;
}

void files_listen(struct files_index *index)
{
	if (!index->pending)
		watch_drain(index);
}

void watch_close(struct files_index *index)
{
	if (index->watch >= 0)
		close(index->watch);
	index->watch = -1;
	told_free(&index->told);
}
