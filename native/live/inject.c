#include "live/inject.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { IP_BYTES = 20, TCP_BYTES = 20, TIMESTAMP_BYTES = 12, TTL = 64 };

static void put_u16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put_u32(uint8_t *at, uint32_t value)
{
	put_u16(at, value >> 16);
	put_u16(at + 2, value & 0xffff);
}

int inject_open(void)
{
	return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
}

static size_t make_segment(const struct injection *injection, uint8_t *packet)
{
	uint8_t *tcp = packet + IP_BYTES;
	size_t tcp_bytes = TCP_BYTES + (injection->timestamps ? TIMESTAMP_BYTES : 0);
	put_u16(tcp, injection->tuple.remote_port);
	put_u16(tcp + 2, injection->tuple.local_port);
	put_u32(tcp + 4, injection->sequence);
	put_u32(tcp + 8, injection->acknowledged);
	tcp[12] = (uint8_t)(tcp_bytes / 4 << 4);
	tcp[13] = injection->flags;
	put_u16(tcp + 14, injection->window);
	if (injection->timestamps) {
		memcpy(tcp + TCP_BYTES, "\1\1\10\12", 4); /* two NOPs, kind 8, 10 bytes */
		put_u32(tcp + TCP_BYTES + 4, injection->tsval);
		put_u32(tcp + TCP_BYTES + 8, injection->tsecr);
	}
	packet[0] = 0x45;
	put_u16(packet + 2, (uint32_t)(IP_BYTES + tcp_bytes));
	packet[8] = TTL;
	packet[9] = IPPROTO_TCP;
	memcpy(packet + 12, &injection->tuple.remote, 4);
	memcpy(packet + 16, &injection->tuple.local, 4);
	uint32_t sum = segment_sum(0, packet + 12, 8) + IPPROTO_TCP + (uint32_t)tcp_bytes;
	put_u16(tcp + 16, segment_fold(segment_sum(sum, tcp, tcp_bytes)));
	return IP_BYTES + tcp_bytes; /* the kernel fills in the header's own checksum */
}

int inject_send(int raw, const struct injection *injection)
{
	uint8_t packet[IP_BYTES + TCP_BYTES + TIMESTAMP_BYTES] = { 0 };
	size_t length = make_segment(injection, packet);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = injection->tuple.local };
	return sendto(raw, packet, length, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)length ? 0 : -1;
}
