/* A TAP device with a virtio header and segmentation offload, persistent so that a dead gate is only a stall. */
#ifndef FT_GATE_TAP_H
#define FT_GATE_TAP_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gate/frame.h"

struct tap {
	int fd; /* -1: there is no device */
	char name[IFNAMSIZ];
	ino_t netns; /* the network namespace it was made in */
};

struct tap_options {
	const char *name;
	unsigned char mac[MAC_BYTES];
	unsigned mtu;
	int netns_fd; /* where to make it; -1: here */
	const char *bridge; /* to become a port of; NULL: of none */
};

/*
 * Makes the device, or takes up the one that a former gate left. On failure returns -1 with errno and the step
 * that failed in `*step`; a device that it made itself is gone again.
 */
int tap_open(struct tap *tap, const struct tap_options *options, const char **step);
/* Leaves the device in place for the next gate. */
void tap_leave(struct tap *tap);
/* Removes the device. */
void tap_remove(struct tap *tap);

#endif
