#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

#include "gate/frame.h"
#include "gate/histogram.h"
#include "gate/options.h"
#include "test/check.h"

static const unsigned char mac[MAC_BYTES] = {0x02, 0x42, 0xac, 0x11, 0x00, 0x02};

TEST(gratuitous_arp_bytes)
{
	static const unsigned char request[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x08, 0x06, 0x00, 0x01, 0x08,
		0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x0a, 0x09, 0x00, 0x02, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x0a, 0x09, 0x00, 0x02};
	unsigned char frame[ARP_FRAME_BYTES], zero[ARP_FRAME_BYTES] = {0};
	struct in_addr ip;
	CHECK_EQ(inet_pton(AF_INET, "10.9.0.2", &ip), 1);
	frame_gratuitous_arp(frame, ARP_FORM_REQUEST, mac, ip);
	CHECK_EQ(memcmp(frame, zero, VIRTIO_HEADER_BYTES), 0);
	CHECK_EQ(memcmp(frame + VIRTIO_HEADER_BYTES, request, sizeof request), 0);
	CHECK_EQ(memcmp(frame + VIRTIO_HEADER_BYTES + sizeof request, zero, 60 - sizeof request), 0);
	frame_gratuitous_arp(frame, ARP_FORM_REPLY, mac, ip);
	CHECK_EQ(frame[VIRTIO_HEADER_BYTES + 21], 2);
	CHECK_EQ(memcmp(frame + VIRTIO_HEADER_BYTES + 32, mac, MAC_BYTES), 0);
	CHECK(frame_passes_under_lease(frame, sizeof frame));
}

static size_t ipv4(unsigned char *frame, unsigned char protocol)
{
	memset(frame, 0, 100);
	frame[VIRTIO_HEADER_BYTES + 12] = 0x08;
	frame[VIRTIO_HEADER_BYTES + 14] = 0x45;
	frame[VIRTIO_HEADER_BYTES + 23] = protocol;
	return VIRTIO_HEADER_BYTES + 14 + 20;
}

TEST(only_arp_and_icmp_pass_under_lease)
{
	unsigned char frame[100];
	CHECK(frame_passes_under_lease(frame, ipv4(frame, IPPROTO_ICMP)));
	CHECK(!frame_passes_under_lease(frame, ipv4(frame, IPPROTO_TCP)));
	CHECK(!frame_passes_under_lease(frame, ipv4(frame, IPPROTO_UDP)));
	size_t length = ipv4(frame, IPPROTO_ICMP);
	CHECK(!frame_passes_under_lease(frame, length - 1));
	frame[VIRTIO_HEADER_BYTES + 14] = 0x65;
	CHECK(!frame_passes_under_lease(frame, length));
	/* IPv6, and a tagged ARP */
	frame[VIRTIO_HEADER_BYTES + 12] = 0x86;
	frame[VIRTIO_HEADER_BYTES + 13] = 0xdd;
	CHECK(!frame_passes_under_lease(frame, length));
	frame[VIRTIO_HEADER_BYTES + 12] = 0x81;
	frame[VIRTIO_HEADER_BYTES + 13] = 0x00;
	CHECK(!frame_passes_under_lease(frame, length));
}

TEST(classifying_reads_no_further_than_the_frame)
{
	uint64_t state = 0x5eed4;
	for (int round = 0; round < 50000; round++) {
		size_t length = check_random(&state) % 64;
		unsigned char *frame = malloc(length + 1); /* the sanitizer guards the end */
		CHECK(frame != NULL);
		for (size_t i = 0; i < length; i++)
			frame[i] = (unsigned char)check_random(&state);
		if (length > VIRTIO_HEADER_BYTES + 14)
			memcpy(frame + VIRTIO_HEADER_BYTES + 12, "\x08\x00\x45", 3);
		frame_passes_under_lease(frame, length);
		frame_is_for(frame, length, mac);
		free(frame);
	}
}

TEST(frames_for_others_are_not_ours)
{
	unsigned char frame[100];
	size_t length = ipv4(frame, IPPROTO_TCP);
	CHECK(!frame_is_for(frame, length, mac));
	memcpy(frame + VIRTIO_HEADER_BYTES, mac, MAC_BYTES);
	CHECK(frame_is_for(frame, length, mac));
	memset(frame + VIRTIO_HEADER_BYTES, 0xff, MAC_BYTES);
	CHECK(frame_is_for(frame, length, mac));
	CHECK(!frame_is_for(frame, VIRTIO_HEADER_BYTES + 13, mac));
}

TEST(hardware_addresses)
{
	unsigned char out[MAC_BYTES];
	CHECK_EQ(mac_parse("02:42:ac:11:00:02", out), 0);
	CHECK_EQ(memcmp(out, mac, MAC_BYTES), 0);
	static const char *const bad[] = {"",			"02:42:ac:11:00", "02:42:ac:11:00:0g",	"02-42-ac-11-00-02",
					  "01:42:ac:11:00:02",	"ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:42:ac:11:00:02 ",
					  "02:42:ac:11:00:-2"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_EQ(mac_parse(bad[i], out), -1);
}

TEST(histogram_is_within_a_sixteenth)
{
	static struct histogram histogram;
	for (uint64_t us = 1; us <= 100000; us++)
		histogram_add(&histogram, us);
	uint64_t p50 = histogram_percentile(&histogram, 50), p99 = histogram_percentile(&histogram, 99);
	CHECK(p50 >= 50000 && p50 <= 53200);
	CHECK(p99 >= 99000 && p99 <= 100000);
	CHECK_EQ(histogram_average(&histogram), 50000);
	CHECK_EQ(histogram_percentile(&histogram, 100), 100000);
	histogram_reset(&histogram);
	CHECK_EQ(histogram_percentile(&histogram, 99), 0);
	histogram_add(&histogram, UINT64_MAX / 2);
	CHECK(histogram_percentile(&histogram, 50) >= UINT32_MAX);
	histogram_reset(&histogram);
	histogram_add(&histogram, 3);
	CHECK_EQ(histogram_percentile(&histogram, 50), 3);
}

static int parse(const char *extra, char *why)
{
	static struct options options;
	char text[1024];
	char *argv[40], *save = NULL;
	int argc = 0;
	snprintf(text, sizeof text, "ftgate --pair p --control /run/x --mac 02:00:00:00:00:01 --uplink br0 --lan-if ft0 %s", extra);
	for (char *word = strtok_r(text, " ", &save); word != NULL && argc < 39; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	return options_parse(argc, argv, &options, why, 256);
}

TEST(options_are_checked)
{
	char why[256];
	CHECK_EQ(parse("", why), 0);
	CHECK_EQ(parse("--mtu 9000 --generation 7 --miss-limit 3 --spin-us 0", why), 0);
	static const char *const bad[] = {"--mtu 0",	"--mtu 99999",	  "--mac 01:00:00:00:00:00", "--lan-if much-too-long-a-name",
					  "--lan-if a/b",	"--uplink ..",	  "--held-bytes-max 5",	"--generation -1",
					  "--heartbeat-ms 0", "--what",	  "stray",		"--netns-pid x",
					  "--heartbeat-local 10.0.0.1:80", "--ship-local 10.0.0.1:80", "--ship-plain",
					  "--ship-local 10.0.0.1:80 --ship-peer 10.0.0.2:80", "--ship-queue-bytes 5",
					  "--spin-us 1001",
					  "--key-file /nonexistent", "--mtu"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		why[0] = 0;
		CHECK_EQ(parse(bad[i], why), -1);
		CHECK(why[0] != 0);
	}
}

int main(void)
{
	RUN(gratuitous_arp_bytes);
	RUN(only_arp_and_icmp_pass_under_lease);
	RUN(classifying_reads_no_further_than_the_frame);
	RUN(frames_for_others_are_not_ours);
	RUN(hardware_addresses);
	RUN(histogram_is_within_a_sixteenth);
	RUN(options_are_checked);
	return check_report();
}
