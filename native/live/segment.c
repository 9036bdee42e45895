#include "live/segment.h"

#include <netinet/in.h>
#include <string.h>

enum {
	ETHERNET_BYTES = 14, IP_BYTES_MIN = 20, TCP_BYTES_MIN = 20, ETHERTYPE_IPV4 = 0x0800, WSCALE_MAX = 14,
	OPTION_END = 0, OPTION_NOP = 1, OPTION_MSS = 2, OPTION_WSCALE = 3, OPTION_SACK_PERMITTED = 4, OPTION_TIMESTAMPS = 8,
};

static uint32_t get_u16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static uint32_t get_u32(const uint8_t *at) { return get_u16(at) << 16 | get_u16(at + 2); }

uint32_t segment_sum(uint32_t sum, const uint8_t *bytes, size_t length)
{
	uint64_t wide = sum;
	for (; length >= 2; bytes += 2, length -= 2)
		wide += get_u16(bytes);
	if (length > 0)
		wide += (uint32_t)bytes[0] << 8;
	while (wide >> 16 != 0)
		wide = (wide & 0xffff) + (wide >> 16);
	return (uint32_t)wide;
}

uint16_t segment_fold(uint32_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* As the kernel: options stop at the first that is not whole, and the ones before it count. */
static void read_options(const uint8_t *at, const uint8_t *end, struct segment *out)
{
	while (at < end && *at != OPTION_END) {
		if (*at == OPTION_NOP) {
			at++;
			continue;
		}
		if (end - at < 2 || at[1] < 2 || at[1] > end - at)
			return;
		uint8_t kind = at[0], length = at[1];
		if (kind == OPTION_MSS && length == 4) {
			out->has_mss = true;
			out->mss = (uint16_t)get_u16(at + 2);
		} else if (kind == OPTION_WSCALE && length == 3) {
			out->has_wscale = true;
			out->wscale = at[2] > WSCALE_MAX ? WSCALE_MAX : at[2];
		} else if (kind == OPTION_SACK_PERMITTED && length == 2) {
			out->has_sack = true;
		} else if (kind == OPTION_TIMESTAMPS && length == 10) {
			out->has_timestamps = true;
			out->tsval = get_u32(at + 2);
			out->tsecr = get_u32(at + 6);
		}
		at += length;
	}
}

static bool checksum_holds(const uint8_t *ip, const uint8_t *tcp, size_t tcp_bytes)
{
	uint32_t sum = segment_sum(0, ip + 12, 8) + IPPROTO_TCP + (uint32_t)tcp_bytes;
	return segment_fold(segment_sum(sum, tcp, tcp_bytes)) == 0;
}

enum segment_verdict segment_read(const uint8_t *ethernet, size_t length, bool checksum, struct segment *out)
{
	if (length < ETHERNET_BYTES || get_u16(ethernet + 12) != ETHERTYPE_IPV4)
		return SEGMENT_IS_OTHER;
	const uint8_t *ip = ethernet + ETHERNET_BYTES;
	size_t left = length - ETHERNET_BYTES;
	if (left < IP_BYTES_MIN || ip[0] >> 4 != 4)
		return SEGMENT_IS_BROKEN;
	size_t ip_bytes = (size_t)(ip[0] & 15) * 4, total = get_u16(ip + 2);
	if (total == 0)
		total = left; /* larger than 64 KiB: the field has no room for it */
	if (ip_bytes < IP_BYTES_MIN || total < ip_bytes || total > left)
		return SEGMENT_IS_BROKEN;
	if (ip[9] != IPPROTO_TCP)
		return SEGMENT_IS_OTHER;
	if ((get_u16(ip + 6) & 0x3fff) != 0)
		return SEGMENT_IS_FRAGMENT;
	const uint8_t *tcp = ip + ip_bytes;
	size_t tcp_bytes = total - ip_bytes;
	if (tcp_bytes < TCP_BYTES_MIN)
		return SEGMENT_IS_BROKEN;
	size_t header = (size_t)(tcp[12] >> 4) * 4;
	if (header < TCP_BYTES_MIN || header > tcp_bytes || (checksum && !checksum_holds(ip, tcp, tcp_bytes)))
		return SEGMENT_IS_BROKEN;
	memset(out, 0, sizeof *out);
	memcpy(&out->source, ip + 12, 4);
	memcpy(&out->target, ip + 16, 4);
	out->source_port = (uint16_t)get_u16(tcp);
	out->target_port = (uint16_t)get_u16(tcp + 2);
	out->sequence = get_u32(tcp + 4);
	out->acknowledged = get_u32(tcp + 8);
	out->flags = tcp[13] & 31;
	out->window = (uint16_t)get_u16(tcp + 14);
	read_options(tcp + TCP_BYTES_MIN, tcp + header, out);
	out->payload = tcp + header;
	out->payload_bytes = (uint32_t)(tcp_bytes - header);
	return SEGMENT_IS_TCP;
}
