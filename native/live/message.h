/* Sending and receiving one packet of the handover, with at most one descriptor. Allocates nothing. */
#ifndef FT_LIVE_MESSAGE_H
#define FT_LIVE_MESSAGE_H

#include <stddef.h>

#include "live/handover.h"

void message_begin(struct handover_message *message, enum handover_kind kind);
/* 0, or -1 with errno. `fd` -1: none. */
int message_send(int socket, const struct handover_message *message, const void *data, size_t bytes, int fd);
/*
 * 0, or -1 with errno: ETIMEDOUT, ECONNRESET when the other side is gone, EPROTO for what is no message. `fd` is -1 if none
 * came; `data` may be NULL.
 */
int message_receive(int socket, struct handover_message *message, void *data, size_t room, size_t *bytes, int *fd);
/* Every wait on this socket ends after so long. */
int message_limit(int socket, int timeout_ms);

#endif
