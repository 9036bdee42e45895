/* Follows a primary's LAN device with a tracker, in a thread: what a gate's log would tell the standby. */
#ifndef FT_LIVE_TEST_CAPTURE_H
#define FT_LIVE_TEST_CAPTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "live/tracker.h"

struct capture {
	struct tracker tracker;
	pthread_mutex_t lock;
	pthread_t thread;
	int socket;
	bool syn_only; /* of the container's frames only those with SYN, FIN or RST, as a gate's log would have */
	_Atomic int ends;
	_Atomic uint64_t idle_ns; /* when there was nothing to read */
	uint64_t frames, longest;
};

int capture_start(struct capture *capture, int packet_socket, const char *device);
/* Until everything that was on the wire before now has been seen. */
bool capture_settle(struct capture *capture);
/* How many frames were missed. */
unsigned capture_stop(struct capture *capture);

#endif
