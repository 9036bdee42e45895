/*
 * CRIU restores output that was sent but not acknowledged as already sent: it would then wait for the first
 * retransmission timeout, a second or more, though in our case the client has most likely never seen it. So we
 * tell CRIU that it is unsent: it is then sent at once.
 *
 * Only as much as fits into the initial congestion window of `segments` (10, unless the container's routes have
 * an `initcwnd`): what the kernel believes to be unsent must really be sent at once, because an acknowledgement
 * of unsent data (the client may have some of it) is ignored.
 *
 * Not on connections of the container with itself: CRIU sends what is unsent when it makes the socket, and the other end may not be
 * there yet; the answer would be a reset, and the end of the restore.
 *
 * An image is magic (8 bytes), length (4 bytes), one protobuf message, then the bytes of both queues.
 */
#ifndef FT_RESTORE_TCP_IMAGE_H
#define FT_RESTORE_TCP_IMAGE_H

#include <stddef.h>
#include <stdint.h>

/* The message's room grows by at most one field of a 32-bit number. */
enum { TCP_IMAGE_GROWTH_BYTES_MAX = 8, TCP_IMAGE_SEGMENTS = 10 };

/*
 * Rewrites an image of `length` bytes that may be anything into `out` (`size` ≥ length + growth). Returns the new
 * length, 0 if nothing is to be changed, -1 if it is not an image of a TCP stream.
 */
long tcp_image_rewrite(const uint8_t *image, size_t length, uint64_t segments, uint8_t *out, size_t size);

/* Every tcp-stream-*.img of a directory. Returns how many were changed, -1 with errno. */
int tcp_images_rewrite(int directory, uint64_t segments);

#endif
