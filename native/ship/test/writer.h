/* Stands in for the recorder: appends sound records to the lanes of a log, and compares a log with its mirror. */
#ifndef FT_SHIP_TEST_WRITER_H
#define FT_SHIP_TEST_WRITER_H

#include "log/file.h"

/* Appends a READ record with `payload_bytes` of bytes that follow from lane, position and seed. False: no free segment. */
bool writer_append(const struct log_file *log, uint32_t lane, uint32_t payload_bytes, uint64_t seed);
/* NULL when the mirror holds all of every lane from the log's tail to its own head; else what differs first. */
const char *writer_compare(const struct log_file *log, const struct log_file *mirror);
/* As above, and the heads and the fixed header are equal. */
const char *writer_compare_whole(const struct log_file *log, const struct log_file *mirror);

#endif
