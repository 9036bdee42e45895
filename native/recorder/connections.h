/* TCP connections in a replay; see connections.c. Every function may be called for any descriptor. */
#ifndef FT_RECORDER_CONNECTIONS_H
#define FT_RECORDER_CONNECTIONS_H
#include "recorder/recorder.h"

#include <netinet/in.h>
#include <sys/socket.h>

#pragma GCC visibility push(hidden)

/* `name`: where ftlive listens; NULL: connections are not made again. */
void ft_connections_start(const char *name);
bool ft_connections_wanted(void);
/* Replay: */
void ft_connection_accepted(int fd, const void *remote, size_t remote_bytes, const void *local, size_t local_bytes);
void ft_connection_read(int fd, long bytes); /* negative: bytes that were taken from the restored socket for real */
void ft_connection_wrote(int fd, const struct iovec *vector, int count, size_t from, size_t to);
void ft_connection_shut(int fd, int how);
void ft_connection_option(int fd, int level, int name, const void *value, size_t bytes);
void ft_connection_duplicated(int fd);
void ft_connection_closes(int fd); /* before the descriptor is closed */
/* The log has ended. NULL, or what went wrong: then this process must not go on. */
const char *ft_connections_go_live(void);
/* As live_accepted(): of what accept() has just returned. */
int ft_connection_stand_in(int fd, struct sockaddr_in *remote);
void ft_connections_tick(void);
void ft_connections_forked(void); /* in a child */

#pragma GCC visibility pop
#endif
