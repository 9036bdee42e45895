/*
 * The primary's side of the container's files: an index of what the standby has, and a scan that writes what differs.
 *
 * Use:   index = files_open(…);
 *        presync: files_scan(index, w, &options{frozen 0}) … files_stamp(index, &header) … finish … files_commit(index)
 *        epoch:   [frozen] files_scan(index, w, &options{frozen 1}) [thaw] files_verify(index) … files_stamp … finish … files_commit
 *        on any failure between files_scan and files_commit: files_rollback(index): as if the scan had not been.
 *        when a committed blob did not reach the standby (or `dump base=0` and the blobs before were not all acked):
 *        files_reset(index): the next scan ships everything, as files_seq 1 of a new chain.
 *
 * A tree of N unchanged files costs N + directories stat calls; directories are read only when their own times moved.
 * Content is read through the page cache and goes into the writer's tmpfs file: nothing waits for a disk that has the pages.
 * With files_watch() a frozen scan looks at nothing but what the kernel told of since the last one (files/watch.c), and walks when in
 * any doubt, which its stats then name.
 * Not thread-safe; may run on a thread of its own, one at a time, and starts no thread. Paths are bytes, not characters.
 */
#ifndef FT_FILES_SCAN_H
#define FT_FILES_SCAN_H
#include <stddef.h>
#include <stdint.h>
#include "epoch/writer.h"

enum files_kind {
    FILES_UPPER = 1, /* an overlay's upper directory: whiteouts and opaque directories are understood */
    FILES_TREE = 2,  /* a plain tree: volume, bind mount, tmpfs */
};
struct files_root {
    enum files_kind kind;
    const char *path; /* here: a host path or /proc/PID/root/…; opened once, by files_open */
    const char *name; /* where it is applied, inside the container: absolute, normalised; "/" for the writable layer */
};

struct files_limits {
    uint64_t entries_max; /* ENFILE beyond; 0 = 4,000,000 */
    uint64_t bytes_max;   /* content captured by one scan; a frozen scan fails with EFBIG beyond, a presync stops there with
                             `more` = 1 (call it again after the commit); 0 = 4 GiB */
};

struct files_index;

/*
 * Opens the roots (EINVAL for a bad name, open's errno otherwise). `exclude`: absolute paths as in the container, each with
 * everything below ("/.ftctl"); a root below an exclusion is still scanned. Strings are copied. `e_path` (may be NULL, 256
 * bytes) receives the path that failed. A root with another mount inside: the mount is not entered.
 */
struct files_index *files_open(const struct files_root *roots, size_t root_count, const char *const *exclude,
                               size_t exclude_count, const struct files_limits *limits, char *e_path);
void files_close(struct files_index *index);
/*
 * From now on the kernel tells of changes. To be called before the first scan. `scratch`: a directory to try an overlay in. A root
 * that cannot be watched is walked as without; files_unwatched() says why (NULL: it is watched). -1 with errno if none can.
 */
int files_watch(struct files_index *index, const char *scratch);
const char *files_unwatched(const struct files_index *index, size_t root, const char **name);
/* To be called now and then between scans, so that the kernel's bounded queue does not run over. */
void files_listen(struct files_index *index);
/* For tests: after every frozen scan everything is read and compared with the index; a difference fails the scan with EUCLEAN. */
void files_audit(struct files_index *index);

/*
 * A file that a task has open for writing, or mapped shared and writable. `path` as in the container, NULL if not known: of a file
 * that an overlay has copied up, a task is shown the device of the overlay and the number of the image's file.
 */
struct files_use {
    uint64_t ino;
    const char *path;
    int mapped;
};
struct files_scan_options {
    int frozen; /* 1: nobody writes meanwhile, capture is exact. 0: presync; what moved meanwhile is compared again next time */
    /*
     * All files that the tasks have open for writing or mapped now. Mapped ones are always compared: their content moves without
     * their times. The others are looked at: not every way to write (splice, asynchronous I/O, a mapping that is gone) is told of.
     */
    const struct files_use *used;
    size_t used_count;
    const char *doubt; /* why `used` may not be all of them, or NULL: then everything is walked */
};
struct files_scan_stats {
    uint64_t entries, changed, removed; /* entries seen; entries with at least one operation; entries gone */
    uint64_t captured_bytes, hashed_bytes;
    uint64_t renames, skipped; /* skipped: sockets, other mounts */
    unsigned told, walked;     /* roots of which only what the kernel told of was looked at, and the others */
    const char *why;           /* one was walked; NULL if none */
    int more;                  /* presync only: bytes_max was reached, some files were left for the next one */
};
/*
 * 0, or -1 with errno: the writer's errors, EFBIG, ENFILE, ENAMETOOLONG, ELOOP (deeper than 128), EOPNOTSUPP (an overlay
 * redirect or metacopy: mount with redirect_dir=off,metacopy=off), ESTALE (called again before commit or rollback), or of the
 * call that failed. files_error() then says where. After -1 call files_rollback() and throw the blob away.
 */
int files_scan(struct files_index *index, struct epoch_writer *w, const struct files_scan_options *options,
               struct files_scan_stats *stats);
/*
 * To be called after the thaw, before the blob is shipped. A large file that grew is captured optimistically: only its end is
 * read while frozen; here the part before is read and compared. 0 = the blob holds what was there at the freeze. -1 with
 * EAGAIN = it does not: files_rollback(), fail the epoch (stage files); the next scan reads that file whole.
 */
int files_verify(struct files_index *index);
/* Puts files_chain and files_seq of the scan just made into the header. */
void files_stamp(const struct files_index *index, struct epoch_header *header);
void files_commit(struct files_index *index);
void files_rollback(struct files_index *index);
void files_reset(struct files_index *index);
/* "path: what" of the last failure; "" if none. Valid until the next call. */
const char *files_error(const struct files_index *index);

/*
 * Reads a roots file: one root a line, `<upper|tree> <path> <name>`, percent-encoded (%20 %0A %25), '#' comments and empty
 * lines allowed, at most 32. *out is one allocation, free() it. -1 with errno; *line_number says where.
 */
int files_roots_read(const char *path, struct files_root **out, size_t *count, int *line_number);
#endif
