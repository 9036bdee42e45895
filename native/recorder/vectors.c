/* Bytes in several pieces. */
#include "recorder/streams.h"

size_t ft_vector_bytes(const struct iovec *vector, int count)
{
	size_t bytes = 0;
	for (int i = 0; i < count; i++)
		bytes += vector[i].iov_len;
	return bytes;
}

void ft_vector_spread(struct iovec *vector, int count, const uint8_t *bytes, size_t left)
{
	for (int i = 0; i < count && left > 0; i++) {
		size_t here = vector[i].iov_len < left ? vector[i].iov_len : left;
		memcpy(vector[i].iov_base, bytes, here);
		bytes += here;
		left -= here;
	}
}

int ft_vector_first(const struct iovec *vector, int count, size_t bytes, struct iovec *out)
{
	int parts = 0;
	for (int i = 0; i < count && bytes > 0; i++) {
		out[parts] = vector[i];
		if (out[parts].iov_len > bytes)
			out[parts].iov_len = bytes;
		bytes -= out[parts++].iov_len;
	}
	return parts;
}
