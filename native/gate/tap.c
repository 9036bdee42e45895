#include "gate/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gate/invariant.h"
#include "gate/links.h"

#define QUEUE_FRAMES 10000

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

static int set_name(struct ifreq *request, const char *name)
{
	memset(request, 0, sizeof *request);
	if (strlen(name) >= sizeof request->ifr_name) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(request->ifr_name, name);
	return 0;
}

static int attach(int fd, const char *name)
{
	struct ifreq request;
	if (set_name(&request, name) != 0)
		return -1;
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	return ioctl(fd, TUNSETIFF, &request);
}

/* The same offloads on both sides, or a frame that one kernel makes could be one that the other refuses. */
static int set_offloads(int fd)
{
	int header = VIRTIO_HEADER_BYTES;
	unsigned base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) != 0)
		return -1;
	if (ioctl(fd, TUNSETOFFLOAD, base | TUN_F_USO4 | TUN_F_USO6) == 0)
		return 0;
	return ioctl(fd, TUNSETOFFLOAD, base); /* before Linux 6.2 */
}

static int set_mac(int control, const char *name, const unsigned char mac[MAC_BYTES])
{
	struct ifreq request;
	if (set_name(&request, name) != 0)
		return -1;
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, mac, MAC_BYTES);
	return ioctl(control, SIOCSIFHWADDR, &request);
}

static int set_up(int control, const char *name)
{
	struct ifreq request;
	if (set_name(&request, name) != 0 || ioctl(control, SIOCGIFFLAGS, &request) != 0)
		return -1;
	request.ifr_flags |= IFF_UP;
	return ioctl(control, SIOCSIFFLAGS, &request);
}

/* A port of the bridge has no business with addresses of its own. Best effort: the host may have no IPv6 at all. */
static void disable_ipv6(const char *name)
{
	char path[96];
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) != 1)
		fprintf(stderr, "could not disable IPv6 on %s: %s\n", name, strerror(errno));
	close(fd);
}

static int enslave(int control, const char *name, const char *bridge)
{
	struct ifreq request;
	if (set_name(&request, bridge) != 0)
		return -1;
	unsigned port = if_nametoindex(name), master = if_nametoindex(bridge);
	if (port == 0 || master == 0)
		return -1;
	request.ifr_ifindex = (int)port;
	if (ioctl(control, SIOCBRADDIF, &request) == 0)
		return 0;
	if (errno != EBUSY)
		return -1;
	/* It has a master already: fine if that is the one we want. */
	if (links_master(port) == master)
		return 0;
	errno = EBUSY;
	return -1;
}

static int configure(int fd, int control, const struct tap_options *options, const char **step)
{
	struct ifreq request;
	if (set_name(&request, options->name) != 0)
		return -1;
	*step = "offloads";
	if (set_offloads(fd) != 0)
		return -1;
	*step = "hardware address";
	if (set_mac(control, options->name, options->mac) != 0)
		return -1;
	*step = "mtu";
	request.ifr_mtu = (int)options->mtu;
	if (ioctl(control, SIOCSIFMTU, &request) != 0)
		return -1;
	*step = "queue length";
	request.ifr_qlen = QUEUE_FRAMES;
	if (ioctl(control, SIOCSIFTXQLEN, &request) != 0)
		return -1;
	*step = "bridge";
	if (options->bridge != NULL) {
		disable_ipv6(options->name);
		if (enslave(control, options->name, options->bridge) != 0)
			return -1;
	}
	*step = "up";
	if (set_up(control, options->name) != 0)
		return -1;
	/* Last: a device that could not be finished must not outlive the attempt. */
	*step = "persist";
	return ioctl(fd, TUNSETPERSIST, 1);
}

/* In the namespace where the device is to be. */
static int open_here(struct tap *tap, const struct tap_options *options, const char **step)
{
	struct stat netns;
	*step = "network namespace";
	if (stat("/proc/thread-self/ns/net", &netns) != 0)
		return -1;
	*step = "control socket";
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0)
		return -1;
	*step = "/dev/net/tun";
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int result = fd < 0 ? -1 : 0;
	if (result == 0) {
		*step = "attach";
		result = attach(fd, options->name);
	}
	if (result == 0)
		result = configure(fd, control, options, step);
	int error = errno;
	if (result != 0 && fd >= 0)
		close(fd);
	close(control);
	if (result == 0) {
		tap->fd = fd;
		strcpy(tap->name, options->name);
		tap->netns = netns.st_ino;
	}
	errno = error;
	return result;
}

int tap_open(struct tap *tap, const struct tap_options *options, const char **step)
{
	tap->fd = -1;
	if (options->netns_fd < 0)
		return open_here(tap, options, step);
	*step = "network namespace";
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return -1;
	int result = setns(options->netns_fd, CLONE_NEWNET);
	if (result == 0) {
		result = open_here(tap, options, step);
		int error = errno;
		/* Heartbeats and the LAN side belong to the host's namespace; going on in the wrong one is no option. */
		INVARIANT(setns(home, CLONE_NEWNET) == 0);
		errno = error;
	}
	int error = errno;
	close(home);
	errno = error;
	return result;
}

void tap_leave(struct tap *tap)
{
	if (tap->fd >= 0)
		close(tap->fd);
	tap->fd = -1;
}

void tap_remove(struct tap *tap)
{
	/* EBADFD: the namespace has died and has taken the device along. */
	if (tap->fd >= 0 && ioctl(tap->fd, TUNSETPERSIST, 0) != 0 && errno != EBADFD)
		fprintf(stderr, "could not make %s go away: %s\n", tap->name, strerror(errno));
	tap_leave(tap);
}
