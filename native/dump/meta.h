/*
 * What a restore has to know about a dump besides CRIU's images. Kept among them as `ftctl-meta.img`, so that
 * it travels and commits with them:
 *
 *   ftctl-meta 1
 *   app_pid 7
 *   stdin -
 *   stdout pipe:[15390]
 *   stderr pipe:[15391]
 *   monotonic_ns 1234
 *   crc32c 89abcdef          over all bytes before this line
 */
#ifndef FT_DUMP_META_H
#define FT_DUMP_META_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define META_NAME "ftctl-meta.img"
enum { META_BYTES_MAX = 512 };

struct meta {
	pid_t app_pid;         /* inside */
	uint64_t pipe_ino[3];  /* of ftinit's 0, 1, 2, which the application inherited; 0: not a pipe */
	uint64_t monotonic_ns; /* by the dumping host's clock */
};

/* Returns the length, or -1 when it does not fit. */
int meta_format(const struct meta *meta, char *text, size_t size);
/* `text` is `length` bytes that may be anything. 0, or -1 with EBADMSG. */
int meta_parse(const char *text, size_t length, struct meta *out);

int meta_write(int directory, const struct meta *meta);
int meta_read(int directory, struct meta *out);

#endif
