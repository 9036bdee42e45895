/*
 * Reads an epoch blob that may be hostile. epoch_reader_open() checks the whole blob (every length, count and checksum, the
 * order of sections) before it returns; nothing is allocated by a size that the blob claims. What the records mean is checked
 * by images_check() and files_check().
 */
#ifndef FT_EPOCH_READER_H
#define FT_EPOCH_READER_H
#include <stddef.h>
#include <stdint.h>
#include "epoch/format.h"

/* Why something was refused: `code` is a slug of the line protocol (corrupt version base generation order space io). */
struct epoch_error {
    char code[16];
    int error; /* errno, or 0 */
    char detail[224];
};
/* Fills `e` (may be NULL) and returns -1. */
int epoch_fail(struct epoch_error *e, const char *code, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

struct epoch_reader;

/* Maps and verifies `fd` (stays the caller's; may be closed afterwards). 0 and *out, or -1 and *e. */
int epoch_reader_open(int fd, uint64_t bytes_max, struct epoch_reader **out, struct epoch_error *e);
void epoch_reader_close(struct epoch_reader *r); /* NULL is fine */
const struct epoch_header *epoch_reader_header(const struct epoch_reader *r);

struct epoch_section {
    enum epoch_section_kind kind;
    uint32_t record_count;
    const uint8_t *start; /* the first record's header */
    uint64_t bytes;
};
/* The section with that index, or NULL. Pointers live as long as the reader. */
const struct epoch_section *epoch_reader_section(const struct epoch_reader *r, uint32_t index);

struct epoch_record_view {
    enum epoch_record_type type;
    uint32_t length_bytes;
    const uint8_t *payload;
};
struct epoch_cursor {
    const uint8_t *at, *end;
};
static inline struct epoch_cursor epoch_cursor_of(const struct epoch_section *s) {
    return (struct epoch_cursor){s->start, s->start + s->bytes};
}
/* 1 and the next record, 0 at the end. */
int epoch_cursor_next(struct epoch_cursor *c, struct epoch_record_view *out);
#endif
