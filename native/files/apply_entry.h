/* System calls on one entry below a directory descriptor; nothing here follows a link. Internal to files/apply.c. */
#ifndef FT_FILES_APPLY_ENTRY_H
#define FT_FILES_APPLY_ENTRY_H
#include <stdint.h>

#include "files/parse.h"

/* Removes an entry with everything below it. What is not there is removed already; a mount stays and counts as skipped. */
int entry_remove(int dirfd, const char *name, uint64_t *skipped);
/* Owner, mode and mtime of an entry that is no regular file or directory. */
int entry_set_meta_at(int dirfd, const char *name, const struct file_meta *meta);
/* The same by descriptor; after the attributes, which a change of owner would take away again. */
int entry_set_meta(int fd, const struct file_meta *meta);
int entry_set_owner(int fd, const struct file_meta *meta);
/* Makes the attributes of `fd` exactly the `count` FILES_ATTR records at the cursor, which is moved beyond them. */
int entry_set_attributes(int fd, struct epoch_cursor *c, uint32_t count, uint64_t *skipped);
int entry_zero(int fd, uint64_t offset, uint64_t length);
#endif
