#include "live/test/capture.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "live/test/service.h"

enum { FRAME_BYTES = 1 << 18, BUFFER_BYTES = 256 << 20, SETTLE_MS = 3000 };

static bool follow_one(struct capture *capture, uint8_t *frame)
{
	struct sockaddr_ll from;
	socklen_t length = sizeof from;
	ssize_t got = recvfrom(capture->socket, frame, FRAME_BYTES, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
	if (got < 0)
		return false;
	bool input = from.sll_pkttype == PACKET_OUTGOING;
	enum { FLAGS_AT = 47 }; /* of TCP behind an IP header without options */
	bool spoken = got > FLAGS_AT && (frame[FLAGS_AT] & (SEGMENT_SYN | SEGMENT_FIN | SEGMENT_RST)) != 0;
	pthread_mutex_lock(&capture->lock);
	capture->frames++;
	if ((uint64_t)got > capture->longest)
		capture->longest = (uint64_t)got;
	if (input || !capture->syn_only || spoken)
		tracker_frame(&capture->tracker, input ? TRACKER_INPUT : TRACKER_OUTPUT, frame, (size_t)got, false, now_ns());
	pthread_mutex_unlock(&capture->lock);
	return true;
}

static void *follow(void *argument)
{
	static uint8_t frame[FRAME_BYTES];
	struct capture *capture = argument;
	while (!atomic_load(&capture->ends)) {
		uint64_t asked_ns = now_ns();
		if (follow_one(capture, frame))
			continue;
		atomic_store(&capture->idle_ns, asked_ns);
		struct pollfd wait = { .fd = capture->socket, .events = POLLIN };
		poll(&wait, 1, 2);
	}
	return NULL;
}

int capture_start(struct capture *capture, int packet_socket, const char *device)
{
	struct ifreq request = { 0 };
	int bytes = BUFFER_BYTES;
	capture->socket = packet_socket;
	strncpy(request.ifr_name, device, sizeof request.ifr_name - 1);
	pthread_mutex_init(&capture->lock, NULL);
	atomic_store(&capture->ends, 0);
	if (ioctl(packet_socket, SIOCGIFINDEX, &request) != 0 ||
	    setsockopt(packet_socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
		return -1;
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = request.ifr_ifindex };
	if (bind(packet_socket, (struct sockaddr *)&at, sizeof at) != 0 ||
	    tracker_open(&capture->tracker, 256, 65536) != 0)
		return -1;
	return pthread_create(&capture->thread, NULL, follow, capture) == 0 ? 0 : -1;
}

bool capture_settle(struct capture *capture)
{
	uint64_t from = now_ns();
	while (atomic_load(&capture->idle_ns) < from) {
		if (now_ns() - from > SETTLE_MS * 1000000ull)
			return false;
		usleep(500);
	}
	return true;
}

unsigned capture_stop(struct capture *capture)
{
	struct tpacket_stats stats = { 0 };
	socklen_t length = sizeof stats;
	atomic_store(&capture->ends, 1);
	pthread_join(capture->thread, NULL);
	if (getsockopt(capture->socket, SOL_PACKET, PACKET_STATISTICS, &stats, &length) != 0)
		stats.tp_drops = 1;
	close(capture->socket);
	return stats.tp_drops;
}
