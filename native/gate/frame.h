/* What the gate needs to know of a frame, and the ARP frames it makes itself. Frames carry a virtio header. */
#ifndef FT_GATE_FRAME_H
#define FT_GATE_FRAME_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIRTIO_HEADER_BYTES 10u
#define MAC_BYTES 6u
#define ARP_FRAME_BYTES (VIRTIO_HEADER_BYTES + 60u)

/* ARP and ICMP over IPv4: pass under a fresh lease. Everything else, and everything odd, is output. */
bool frame_passes_under_lease(const unsigned char *frame, size_t length);
/* IPv4 or IPv6, meant for `mac` alone. */
bool frame_is_ip_to(const unsigned char *frame, size_t length, const unsigned char mac[MAC_BYTES]);
/* Meant for `mac`, or for everybody. */
bool frame_is_for(const unsigned char *frame, size_t length, const unsigned char mac[MAC_BYTES]);

enum arp_form { ARP_FORM_REQUEST, ARP_FORM_REPLY };
/* A gratuitous ARP that says `ip` is at `mac`, padded to Ethernet's minimum. */
void frame_gratuitous_arp(unsigned char out[ARP_FRAME_BYTES], enum arp_form form, const unsigned char mac[MAC_BYTES],
			  struct in_addr ip);

/* "02:42:ac:11:00:02"; -1 when it is none, or not a unicast address. */
int mac_parse(const char *text, unsigned char mac[MAC_BYTES]);

#endif
