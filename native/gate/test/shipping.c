#include "gate/test/shipping.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct world_gate a, b;
int listener = -1;
char shipping_folder[] = "/dev/shm/ship-gates-XXXXXX";
char log_path[64], mirror_path[64], frames_path[64];
struct log_file log_file, mirror;
unsigned shipping_segments = 16;
unsigned long long shipping_frames_bytes = 4 << 20;
unsigned long long epoch;

bool shipping_open(void)
{
	/* Apart from the heartbeats' addresses, so that a test can cut the one and not the other. */
	if (mkdtemp(shipping_folder) == NULL || world_run(HOST_A, "ip addr add 10.77.0.11/24 dev repl0") != 0 ||
	    world_run(HOST_B, "ip addr add 10.77.0.12/24 dev repl0") != 0)
		return false;
	snprintf(log_path, sizeof log_path, "%s/log", shipping_folder);
	snprintf(mirror_path, sizeof mirror_path, "%s/mirror", shipping_folder);
	snprintf(frames_path, sizeof frames_path, "%s/frames", shipping_folder);
	return true;
}

void shipping_close(void)
{
	rmdir(shipping_folder);
}

struct sockaddr_in service_address(const char *ip)
{
	struct sockaddr_in out = {.sin_family = AF_INET, .sin_port = htons(SHIPPING_PORT)};
	inet_pton(AF_INET, ip, &out.sin_addr);
	return out;
}

int dress(void)
{
	int one = 1;
	struct sockaddr_in any = service_address("0.0.0.0");
	int bad = world_run(BOX_A, "ip link set lo up && ip addr replace " SERVICE_IP "/24 dev eth0 && "
				   "ip neigh replace " CLIENT_IP " lladdr " CLIENT_MAC " dev eth0 nud permanent");
	listener = world_socket(BOX_A, AF_INET, SOCK_STREAM, 0);
	if (bad != 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    bind(listener, (struct sockaddr *)&any, sizeof any) != 0 || listen(listener, 16) != 0)
		return -1;
	return 0;
}

void drop(int *fd)
{
	struct linger now = {.l_onoff = 1};
	if (*fd >= 0) {
		setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		close(*fd);
	}
	*fd = -1;
}

bool start_mirror(const char *options)
{
	char all[256];
	snprintf(all, sizeof all, "--ship-local 10.77.0.12:7401 --ship-peer 10.77.0.11:7401 %s", options);
	return gate_start(&b, HOST_B, BOX_B, all, NULL) == 0 && gate_ok(&b, "subscribe") &&
	       gate_ok(&b, "log role=mirror path=%s frames=%s frames_bytes=%llu", mirror_path, frames_path,
		       shipping_frames_bytes);
}

bool checkpoint(bool trim)
{
	epoch++;
	return gate_ok(&a, "mark epoch=%llu", epoch) && gate_ok(&a, "thaw") && gate_ok(&a, "commit epoch=%llu", epoch) &&
	       (!trim || gate_ok(&a, "trim epoch=%llu", epoch));
}

bool start_source(const char *options)
{
	char all[256];
	snprintf(all, sizeof all, "--ship-local 10.77.0.11:7401 --ship-peer 10.77.0.12:7401 %s", options);
	return gate_start(&a, HOST_A, BOX_A, all, NULL) == 0 && dress() == 0 && gate_ok(&a, "subscribe") &&
	       gate_ok(&a, "mode name=hold generation=1 epoch=1") && gate_ok(&a, "log role=source path=%s", log_path) &&
	       gate_event(&a, "ship-back", WAIT_MS);
}

bool start_shipping(const char *options)
{
	epoch = 0;
	return log_create(log_path, SHIPPING_LANES, shipping_segments, LOG_MODE_RECORD) == 0 && log_map(log_path, true, &log_file) == 0 &&
	       start_mirror(options) && start_source(options) && checkpoint(false) &&
	       gate_ok(&a, "mode name=log generation=1");
}

bool map_mirror(void)
{
	log_unmap(&mirror);
	return log_map(mirror_path, false, &mirror) == 0;
}

void end_shipping(void)
{
	if (listener >= 0)
		close(listener);
	listener = -1;
	gate_kill(&a, SIGKILL);
	gate_kill(&b, SIGKILL);
	log_unmap(&log_file);
	log_unmap(&mirror);
	unlink(log_path);
	unlink(mirror_path);
	unlink(frames_path);
	world_run(HOST_A, "ip link del ftlan0 2>/dev/null || true");
	world_run(HOST_B, "ip link del ftlan0 2>/dev/null || true");
	world_renew(BOX_A);
	world_renew(BOX_B);
}
