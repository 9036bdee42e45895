/* The container's end: its network namespace dies with it, and a new one comes with the next start. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gate/gate.h"
#include "gate/wakeup.h"

static int watch(struct gate *gate, struct tap *tap)
{
	struct epoll_event event = {.events = 0, .data.u64 = wakeup_data(WAKE_CONTAINER, 0)};
	gate->container_interest = 0;
	return epoll_ctl(gate->epoll_fd, EPOLL_CTL_ADD, tap->fd, &event);
}

static void replace(struct gate *gate, const struct tap *tap)
{
	/* Closing takes it out of the epoll set. */
	tap_remove(&gate->container);
	gate->container = *tap;
	gate->container_sink.blocked = false;
}

int container_attach(struct gate *gate, pid_t pid, const char **step)
{
	char path[64];
	struct stat netns;
	struct tap tap;
	*step = "network namespace";
	snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int result = fstat(fd, &netns);
	if (result == 0 && gate->container.fd >= 0 && gate->container.netns == netns.st_ino) {
		close(fd);
		return 0;
	}
	struct tap_options options = {
		.name = gate->options->container_if, .mtu = gate->options->mtu, .netns_fd = fd, .bridge = NULL};
	memcpy(options.mac, gate->options->mac, MAC_BYTES);
	if (result == 0)
		result = tap_open(&tap, &options, step);
	int error = errno;
	close(fd);
	if (result == 0) {
		replace(gate, &tap);
		*step = "epoll";
		result = watch(gate, &gate->container);
		error = errno;
	}
	errno = error;
	return result;
}

void container_lost(struct gate *gate)
{
	if (gate->container.fd < 0)
		return;
	fprintf(stderr, "the container's interface is gone: %s\n", strerror(errno));
	tap_leave(&gate->container);
	gate->container_sink.blocked = false;
	event_plain(gate, "container-gone");
}
