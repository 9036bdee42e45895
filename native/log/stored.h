/*
 * Checksums over the end of a lane that was stored for another host. A lane's own CHECK comes every 4 KiB: what is behind the
 * last one is guarded by nothing but the checksums of the stream, which are gone once the bytes are stored.
 *
 * Invariants:
 *   1. One of the two accounts of a lane is true, and is not written: a writer that dies leaves the old one or the new one.
 *   2. head <= to: the account is ahead of the head, and the same bytes come again after a death in between.
 *   3. The account covers the segment that `to` is in, and the whole of the one before: more than any record behind a CHECK.
 */
#ifndef FT_LOG_STORED_H
#define FT_LOG_STORED_H

#include "log/file.h"

/* Of bytes that are at [position, position + length) of the lane from now on; of those that are known already only the rest. */
void log_stored_add(const struct log_file *log, uint32_t lane, uint64_t position, const uint8_t *bytes, uint64_t length);
/* NULL, or what is wrong with the bytes up to the head. */
const char *log_stored_check(const struct log_file *log, uint32_t lane);
/* The lane belongs to a recorder of this host from now on. */
void log_stored_forget(const struct log_file *log, uint32_t lane);

#endif
