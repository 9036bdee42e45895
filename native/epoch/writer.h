/* Writes one epoch blob to a descriptor (a file on tmpfs, opened read-write, empty). Not thread-safe. */
#ifndef FT_EPOCH_WRITER_H
#define FT_EPOCH_WRITER_H
#include <stddef.h>
#include <stdint.h>
#include "epoch/format.h"

struct epoch_writer;

/*
 * A writer on `fd`, which stays the caller's (open until epoch_writer_close). A blob larger than `bytes_max` fails with EFBIG.
 * NULL with errno on lack of memory. The buffer (1 MiB) is allocated and touched here, so open it before the freeze.
 */
struct epoch_writer *epoch_writer_open(int fd, uint64_t bytes_max);

/*
 * All return 0, or -1 with errno (ENOSPC, EFBIG, EIO, EINVAL on misuse). The first failure sticks: every later call fails
 * with the same errno, and the file must be thrown away. files_scan() and images_delta() call the section functions.
 */
int epoch_section_begin(struct epoch_writer *w, enum epoch_section_kind kind);
/* One record: `head` then `data` (either may be empty), together at most EPOCH_RECORD_BYTES_MAX bytes. */
int epoch_record(struct epoch_writer *w, enum epoch_record_type type, const void *head, size_t head_bytes, const void *data,
                 size_t data_bytes);
int epoch_section_end(struct epoch_writer *w);

/* Writes trailer and header; until then the file does not verify. `header`: section_count and total_bytes are filled in. */
int epoch_writer_finish(struct epoch_writer *w, struct epoch_header *header);

uint64_t epoch_writer_bytes(const struct epoch_writer *w);
void epoch_writer_close(struct epoch_writer *w); /* frees; NULL is fine */
#endif
