/*
 * Which build of the recorder wrote a log: the first 16 bytes of the GNU build id that the linker puts into libftrec.so.
 * A process that was recorded with one build has that build's state in its memory, so only the same can replay it.
 */
#ifndef FT_LOG_BUILD_H
#define FT_LOG_BUILD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_build {
	uint64_t id[2]; /* both 0: not known */
};

/* From a segment of notes. */
bool log_build_in_notes(const void *notes, size_t bytes, struct log_build *out);
/* From a library's file. 0 or -errno; -ENOENT: it is a library without one; -ENOEXEC: it is none. */
int log_build_of_file(const char *path, struct log_build *out);
#endif
