/*
 * Memory of a file on a tmpfs, taken before it is touched: a store into a mapping that finds the tmpfs full is a SIGBUS,
 * and a full mirror must be an answer.
 */
#ifndef FT_SHIP_ROOM_H
#define FT_SHIP_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#define ROOM_BLOCK_BYTES (1u << 18)

struct room {
	int fd;
	uint64_t file_bytes;
	uint8_t *taken; /* a bit a block */
};

int room_open(struct room *room, int fd, uint64_t file_bytes); /* -errno; takes the descriptor only if it succeeds */
void room_close(struct room *room);
/* 0, -ENOSPC, or another -errno. */
int room_take(struct room *room, uint64_t at, uint64_t bytes);

#endif
