#include "gate/frame.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <string.h>

#define ETHERNET_BYTES 14u

static const unsigned char *ethernet(const unsigned char *frame, size_t length)
{
	return length < VIRTIO_HEADER_BYTES + ETHERNET_BYTES ? NULL : frame + VIRTIO_HEADER_BYTES;
}

bool frame_passes_under_lease(const unsigned char *frame, size_t length)
{
	const unsigned char *header = ethernet(frame, length);
	if (header == NULL)
		return false;
	unsigned type = (unsigned)header[12] << 8 | header[13];
	if (type == ETHERTYPE_ARP)
		return true;
	if (type != ETHERTYPE_IP || length < VIRTIO_HEADER_BYTES + ETHERNET_BYTES + 20)
		return false;
	const unsigned char *ip = header + ETHERNET_BYTES;
	return ip[0] >> 4 == 4 && ip[9] == IPPROTO_ICMP;
}

bool frame_is_ip_to(const unsigned char *frame, size_t length, const unsigned char mac[MAC_BYTES])
{
	const unsigned char *header = ethernet(frame, length);
	if (header == NULL || memcmp(header, mac, MAC_BYTES) != 0)
		return false;
	unsigned type = (unsigned)header[12] << 8 | header[13];
	return type == ETHERTYPE_IP || type == ETHERTYPE_IPV6;
}

bool frame_is_for(const unsigned char *frame, size_t length, const unsigned char mac[MAC_BYTES])
{
	const unsigned char *header = ethernet(frame, length);
	if (header == NULL)
		return false;
	return (header[0] & 1) != 0 || memcmp(header, mac, MAC_BYTES) == 0;
}

void frame_gratuitous_arp(unsigned char out[ARP_FRAME_BYTES], enum arp_form form, const unsigned char mac[MAC_BYTES],
			  struct in_addr ip)
{
	memset(out, 0, ARP_FRAME_BYTES);
	unsigned char *at = out + VIRTIO_HEADER_BYTES;
	memset(at, 0xff, MAC_BYTES);
	memcpy(at + 6, mac, MAC_BYTES);
	at[12] = ETHERTYPE_ARP >> 8;
	at[13] = ETHERTYPE_ARP & 0xff;
	at += ETHERNET_BYTES;
	at[1] = ARPHRD_ETHER;
	at[2] = ETHERTYPE_IP >> 8;
	at[3] = ETHERTYPE_IP & 0xff;
	at[4] = MAC_BYTES;
	at[5] = 4;
	at[7] = form == ARP_FORM_REQUEST ? ARPOP_REQUEST : ARPOP_REPLY;
	memcpy(at + 8, mac, MAC_BYTES);
	memcpy(at + 14, &ip, 4);
	/* RFC 5944: the reply form repeats the sender's hardware address as the target's. */
	if (form == ARP_FORM_REPLY)
		memcpy(at + 18, mac, MAC_BYTES);
	memcpy(at + 24, &ip, 4);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int mac_parse(const char *text, unsigned char mac[MAC_BYTES])
{
	unsigned any = 0;
	if (strlen(text) != 3 * MAC_BYTES - 1)
		return -1;
	for (size_t i = 0; i < MAC_BYTES; i++, text += 3) {
		int high = digit(text[0]), low = digit(text[1]);
		if (high < 0 || low < 0 || (i + 1 < MAC_BYTES && text[2] != ':'))
			return -1;
		mac[i] = (unsigned char)(high << 4 | low);
		any |= mac[i];
	}
	return any == 0 || (mac[0] & 1) != 0 ? -1 : 0;
}
