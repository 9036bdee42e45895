/*
 * One TCP segment as it is found in an Ethernet frame: IPv4, no VLAN, options read, the payload pointed to. Bytes may
 * be anything: what is not whole, or is not TCP, is refused. Segments larger than the MTU (segmentation offload) are
 * segments like others.
 */
#ifndef FT_LIVE_SEGMENT_H
#define FT_LIVE_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEGMENT_FIN = 1, SEGMENT_SYN = 2, SEGMENT_RST = 4, SEGMENT_PSH = 8, SEGMENT_ACK = 16 };
enum segment_verdict { SEGMENT_IS_TCP, SEGMENT_IS_OTHER, SEGMENT_IS_FRAGMENT, SEGMENT_IS_BROKEN };

struct segment {
	uint32_t source, target; /* addresses, in network order */
	uint16_t source_port, target_port;
	uint32_t sequence, acknowledged;
	uint16_t window; /* as on the wire: not scaled */
	uint8_t flags;
	bool has_mss, has_wscale, has_sack, has_timestamps;
	uint16_t mss;
	uint8_t wscale;
	uint32_t tsval, tsecr;
	const uint8_t *payload;
	uint32_t payload_bytes;
};

/*
 * `checksum`: look at it, and call a segment broken if it is wrong, as a kernel does. Frames whose checksum a device has
 * yet to fill in, or has looked at (VIRTIO_NET_HDR_F_NEEDS_CSUM, _DATA_VALID), are read without.
 */
enum segment_verdict segment_read(const uint8_t *ethernet, size_t length, bool checksum, struct segment *out);

/* What the segment takes of the sequence space: payload, SYN and FIN. */
static inline uint32_t segment_span(const struct segment *segment)
{
	return segment->payload_bytes + ((segment->flags & SEGMENT_SYN) != 0) + ((segment->flags & SEGMENT_FIN) != 0);
}

/* Sequence numbers, modulo 2^32. */
static inline bool sequence_after(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }

/* The Internet checksum, to be continued with `sum` and ended with segment_fold(). */
uint32_t segment_sum(uint32_t sum, const uint8_t *bytes, size_t length);
uint16_t segment_fold(uint32_t sum);

#endif
