/*
 * Which TCP streams of a checkpoint have both ends in the container, from CRIU's files.img: it is magic (8 bytes), then entries,
 * each a length (4 bytes) and a protobuf message. Streams are known by the number in their image's name.
 */
#ifndef FT_RESTORE_LOCAL_SOCKETS_H
#define FT_RESTORE_LOCAL_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct local_sockets {
	uint32_t *numbers;
	size_t count, room;
};

/* Adds those of an image of `length` bytes that may be anything. 0, or -1 with errno: EBADMSG if it is no such image. */
int local_sockets_of(const uint8_t *image, size_t length, struct local_sockets *out);

/* The same of a directory's files.img; one that has none has no sockets. Begins with an empty *out, to be freed in any case. */
int local_sockets_read(int directory, struct local_sockets *out);

bool local_sockets_has(const struct local_sockets *sockets, uint32_t number);
void local_sockets_free(struct local_sockets *sockets);

#endif
