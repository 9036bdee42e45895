#include "ship/room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int room_open(struct room *room, int fd, uint64_t file_bytes)
{
	uint64_t blocks = (file_bytes + ROOM_BLOCK_BYTES - 1) / ROOM_BLOCK_BYTES;
	room->taken = calloc(blocks / 8 + 1, 1);
	if (room->taken == NULL)
		return -ENOMEM;
	room->fd = fd;
	room->file_bytes = file_bytes;
	return 0;
}

void room_close(struct room *room)
{
	if (room->taken == NULL)
		return;
	close(room->fd);
	free(room->taken);
	room->taken = NULL;
}

int room_take(struct room *room, uint64_t at, uint64_t bytes)
{
	if (bytes == 0)
		return 0;
	if (at > room->file_bytes || bytes > room->file_bytes - at)
		return -EINVAL;
	for (uint64_t block = at / ROOM_BLOCK_BYTES; block <= (at + bytes - 1) / ROOM_BLOCK_BYTES; block++) {
		if (room->taken[block / 8] & 1u << block % 8)
			continue;
		uint64_t from = block * ROOM_BLOCK_BYTES, left = room->file_bytes - from;
		int result;
		do
			result = fallocate(room->fd, 0, (off_t)from,
					   (off_t)(left < ROOM_BLOCK_BYTES ? left : ROOM_BLOCK_BYTES));
		while (result != 0 && errno == EINTR);
		if (result != 0)
			return -errno;
		room->taken[block / 8] |= (uint8_t)(1u << block % 8);
	}
	return 0;
}
