/* What reading and writing share, whatever the call's name: inputs.c, messages.c, outputs.c, channels.c, vectors.c. */
#ifndef FT_RECORDER_STREAMS_H
#define FT_RECORDER_STREAMS_H
#include "recorder/connections.h"
#include "recorder/real.h"

#pragma GCC visibility push(hidden)

struct transfer {
	int fd;
	struct iovec *vector;
	int count;
	long (*call)(struct transfer *);
	int flags;
	struct sockaddr *address;
	socklen_t *address_bytes;
	socklen_t to_bytes;
	struct msghdr *message;
};

/* vectors.c */
size_t ft_vector_bytes(const struct iovec *vector, int count);
void ft_vector_spread(struct iovec *vector, int count, const uint8_t *bytes, size_t left);
/* The first `bytes` of a vector, as one with its own lengths. */
int ft_vector_first(const struct iovec *vector, int count, size_t bytes, struct iovec *out);

/* channels.c */
void ft_channel_drain(int fd);
int64_t ft_channel_worth(const struct ft_descriptor *d, const void *bytes, long result);
void ft_channel_write_again(int fd, const struct iovec *vector, int count, size_t from, size_t to);

/* passing.c: messages through channels, with descriptors */
long ft_channel_receive(int fd, struct msghdr *message, int flags);
bool ft_passes_descriptors(const struct msghdr *message);
void ft_passes_nothing_external(const struct msghdr *message); /* or the recording is lost */
void ft_send_again(int fd, const struct msghdr *message, int flags);

/* backlog.c */
size_t ft_backlog_write(int fd, const uint8_t *bytes, size_t count); /* how much was written or kept */
void ft_backlog_flush(int fd); /* into the channel that is read here */
bool ft_backlog_is_empty(int fd); /* of the channel that is written to here */

static inline bool ft_is_recorded(int fd)
{
	if (unlikely(ft_is_outside) && ft_kind_of(fd) == FT_SOCKET)
		ft_outside_serves();
	if (unlikely(ft_kind_of(fd) == FT_PASSED) && ft_mode_word() == LOG_MODE_RECORD)
		ft_lost(LOG_LOSS_DESCRIPTOR);
	return ft_me != NULL && (ft_is_external(fd) || ft_kind_of(fd) == FT_CHANNEL);
}

/* A read of more than a record holds is cut: a short read is always allowed. */
static inline size_t ft_cut(size_t bytes) { return bytes < FT_INPUT_BYTES_MAX ? bytes : FT_INPUT_BYTES_MAX; }

#pragma GCC visibility pop
#endif
