/*
 * What holding and shipping cost, side by side: stock (no gate), gate open, log plain, log TLS; alternating, medians over
 * the rounds. One connection in ping-pong (64 bytes each way), then 50. FTGATE names the gate to measure.
 *
 * CPU is the two gates' processor time per round trip, in that measurement.
 *
 *   FTGATE=build/bin/ftgate build/test/gate-ship-bench [rounds] [ms a measurement] [ways: of 0123]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gate/test/shipping.h"
#include "ship/test/writer.h"

#define MESSAGE_BYTES 64
#define MANY 50
#define ROUNDS_MAX 50
#define SAMPLES_MAX 2000000

enum way { STOCK, OPEN, PLAIN, TLS, WAYS };
static const char *const way_names[WAYS] = {"stock", "gate open", "log plain", "log TLS"};

struct figures {
	double average_us, p50_us, p99_us, many_per_s, many_p50_us;
	double one_source_us, one_mirror_us, many_source_us, many_mirror_us; /* of processor time a round trip */
};
static struct figures results[WAYS][ROUNDS_MAX];
static uint32_t *samples;
static unsigned duration_ms = 1500;

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Echoes; in log mode each request is a record of its bytes and one of the answer, as a recorder would write them. */
static void serve(bool logs)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int one = 1, set = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[64];
	epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int count = epoll_wait(set, events, 64, -1);
		for (int i = 0; i < count; i++) {
			char bytes[MESSAGE_BYTES];
			int fd = events[i].data.fd;
			if (fd == listener) {
				fd = accept(listener, NULL, NULL);
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
				event.data.fd = fd;
				epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
				continue;
			}
			if (recv(fd, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes) {
				close(fd);
				continue;
			}
			while (logs && !writer_append(&log_file, 0, MESSAGE_BYTES, 1))
				usleep(100);
			while (logs && !writer_append(&log_file, 0, 8, 1))
				usleep(100);
			if (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes)
				close(fd);
		}
	}
}

static int call(void)
{
	int one = 1, fd = world_socket(CLIENT, AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in service = service_address(SERVICE_IP);
	if (fd < 0 || connect(fd, (struct sockaddr *)&service, sizeof service) != 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static int by_value(const void *x, const void *y)
{
	uint32_t left = *(const uint32_t *)x, right = *(const uint32_t *)y;
	return left < right ? -1 : left > right;
}

/* What an agent does meanwhile: a checkpoint now and then, so that log and frames never fill up. */
static void keep_trimmed(bool logs, uint64_t *next_ns)
{
	if (!logs || now_ns() < *next_ns)
		return;
	checkpoint(true);
	*next_ns = now_ns() + 100000000;
}

/* `trips`: all of them, those while it was warming up too. */
static bool ping_pong(bool logs, struct figures *out, size_t *trips)
{
	char bytes[MESSAGE_BYTES] = "";
	size_t count = 0;
	double sum = 0;
	int fd = call();
	*trips = 0;
	if (fd < 0)
		return false;
	uint64_t trim_ns = now_ns(), warm_ns = now_ns() + 200000000, end_ns = warm_ns + duration_ms * 1000000ull;
	for (uint64_t at = now_ns(); at < end_ns && count < SAMPLES_MAX; at = now_ns()) {
		if (send(fd, bytes, sizeof bytes, 0) != sizeof bytes || recv(fd, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
			return false;
		uint64_t took_ns = now_ns() - at;
		(*trips)++;
		keep_trimmed(logs, &trim_ns);
		if (at < warm_ns)
			continue;
		samples[count++] = (uint32_t)(took_ns / 100);
		sum += (double)took_ns / 1000;
	}
	close(fd);
	if (count == 0)
		return false;
	qsort(samples, count, sizeof *samples, by_value);
	out->average_us = sum / (double)count;
	out->p50_us = samples[count / 2] / 10.0;
	out->p99_us = samples[count / 100 * 99] / 10.0;
	return true;
}

static bool many(bool logs, struct figures *out, size_t *trips)
{
	char bytes[MESSAGE_BYTES] = "";
	uint64_t sent_ns[MANY] = {0};
	struct epoll_event events[MANY];
	int set = epoll_create1(EPOLL_CLOEXEC), fds[MANY];
	size_t count = 0;
	*trips = 0;
	for (unsigned i = 0; i < MANY; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
		if ((fds[i] = call()) < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event) != 0)
			return false;
	}
	for (unsigned i = 0; i < MANY; i++)
		if (send(fds[i], bytes, sizeof bytes, 0) != sizeof bytes)
			return false;
	uint64_t trim_ns = now_ns(), warm_ns = now_ns() + 200000000, end_ns = warm_ns + duration_ms * 1000000ull, at;
	while ((at = now_ns()) < end_ns) {
		int ready = epoll_wait(set, events, MANY, 2000);
		if (ready <= 0)
			return false;
		keep_trimmed(logs, &trim_ns);
		for (int i = 0; i < ready; i++) {
			unsigned which = events[i].data.u32;
			if (recv(fds[which], bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
				return false;
			(*trips)++;
			if (at >= warm_ns && sent_ns[which] != 0 && count < SAMPLES_MAX)
				samples[count++] = (uint32_t)((now_ns() - sent_ns[which]) / 100);
			sent_ns[which] = now_ns();
			if (send(fds[which], bytes, sizeof bytes, 0) != sizeof bytes)
				return false;
		}
	}
	for (unsigned i = 0; i < MANY; i++)
		close(fds[i]);
	close(set);
	if (count == 0)
		return false;
	out->many_per_s = (double)count * 1000 / duration_ms;
	qsort(samples, count, sizeof *samples, by_value);
	out->many_p50_us = samples[count / 2] / 10.0;
	return true;
}

/* Processor time of a process so far, by the scheduler's own account. */
static double cpu_us(pid_t pid)
{
	char path[64];
	unsigned long long ns = 0;
	snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
	FILE *file = pid > 0 ? fopen(path, "re") : NULL;
	if (file == NULL)
		return 0;
	if (fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	fclose(file);
	return (double)ns / 1000;
}

/* The container on the bridge by a wire, as Docker would have it. */
static bool start_stock(void)
{
	return world_run(HOST_A, "ip link add box type veth peer name eth0 netns %d && ip link set box master br0 && ip link set box up",
			 place_pid[BOX_A]) == 0 &&
	       world_run(BOX_A, "ip link set eth0 address " SERVICE_MAC " && ip link set eth0 up") == 0 && dress() == 0;
}

static bool start_way(enum way way)
{
	switch (way) {
	case STOCK:
		return start_stock();
	case OPEN:
		return gate_start(&a, HOST_A, BOX_A, "", NULL) == 0 && gate_ok(&a, "mode name=open generation=1") && dress() == 0;
	case PLAIN:
		return start_shipping("--ship-plain");
	case TLS:
		return start_shipping("");
	case WAYS:
		break;
	}
	return false;
}

static void say_gates(void)
{
	const char *stats = gate_ask(&a, "stats");
	printf("    ship delay us avg %lld p50 %lld p99 %lld, held p50 %lld p99 %lld, log %lld bytes\n",
	       (long long)field(stats, "ship_delay_us_avg"), (long long)field(stats, "ship_delay_us_p50"),
	       (long long)field(stats, "ship_delay_us_p99"), (long long)field(stats, "delay_us_p50"),
	       (long long)field(stats, "delay_us_p99"), (long long)field(stats, "log_bytes"));
}

static bool measure(enum way way, struct figures *out)
{
	bool logs = way == PLAIN || way == TLS;
	if (!start_way(way))
		return false;
	fflush(stdout);
	pid_t server = fork();
	if (server == 0)
		serve(logs);
	size_t trips;
	double source_us = cpu_us(a.pid), mirror_us = cpu_us(b.pid);
	bool ok = ping_pong(logs, out, &trips);
	if (ok) {
		out->one_source_us = (cpu_us(a.pid) - source_us) / (double)trips;
		out->one_mirror_us = (cpu_us(b.pid) - mirror_us) / (double)trips;
	}
	if (ok && logs)
		say_gates();
	source_us = cpu_us(a.pid);
	mirror_us = cpu_us(b.pid);
	ok = ok && many(logs, out, &trips);
	if (ok) {
		out->many_source_us = (cpu_us(a.pid) - source_us) / (double)trips;
		out->many_mirror_us = (cpu_us(b.pid) - mirror_us) / (double)trips;
	}
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	end_shipping();
	world_run(HOST_A, "ip link del box 2>/dev/null || true");
	return ok;
}

static int by_double(const void *x, const void *y)
{
	double left = *(const double *)x, right = *(const double *)y;
	return left < right ? -1 : left > right;
}

static double median(enum way way, unsigned rounds, size_t offset)
{
	double values[ROUNDS_MAX];
	for (unsigned i = 0; i < rounds; i++)
		memcpy(&values[i], (char *)&results[way][i] + offset, sizeof *values);
	qsort(values, rounds, sizeof *values, by_double);
	return values[rounds / 2];
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 5;
	duration_ms = argc > 2 ? (unsigned)atoi(argv[2]) : duration_ms;
	samples = malloc(SAMPLES_MAX * sizeof *samples);
	const char *ways = argc > 3 ? argv[3] : "0123";
	signal(SIGPIPE, SIG_IGN);
	if (samples == NULL || rounds == 0 || rounds > ROUNDS_MAX || world_open() != 0 || !shipping_open())
		return 1;
	shipping_segments = 256;
	shipping_frames_bytes = 256ull << 20;
	int status = 0;
	for (unsigned round = 0; status == 0 && round < rounds; round++)
		for (unsigned turn = 0; status == 0 && turn < WAYS; turn++) {
			/* There and back: none is always after the same other. */
			enum way way = (enum way)(round % 2 == 0 ? turn : WAYS - 1 - turn);
			struct figures *out = &results[way][round];
			if (strchr(ways, '0' + (int)way) == NULL)
				continue;
			if (!measure(way, out)) {
				printf("%s failed: %s\n", way_names[way], strerror(errno));
				status = 1;
			}
			printf("  %-10s avg %6.1f p50 %6.1f p99 %6.1f us   50: %8.0f/s p50 %7.1f us\n", way_names[way],
			       out->average_us, out->p50_us, out->p99_us, out->many_per_s, out->many_p50_us);
		}
	printf("\nmedians of %u rounds\n%-10s %8s %8s %8s %10s %10s %23s %23s\n", rounds, "", "avg us", "p50 us",
	       "p99 us", "50: ops/s", "50: p50 us", "CPU us source + mirror", "50: source + mirror");
	for (enum way way = STOCK; status == 0 && way < WAYS; way++)
		printf("%-10s %8.1f %8.1f %8.1f %10.0f %10.1f %14.1f + %6.1f %14.2f + %6.2f\n", way_names[way],
		       median(way, rounds, offsetof(struct figures, average_us)),
		       median(way, rounds, offsetof(struct figures, p50_us)),
		       median(way, rounds, offsetof(struct figures, p99_us)),
		       median(way, rounds, offsetof(struct figures, many_per_s)),
		       median(way, rounds, offsetof(struct figures, many_p50_us)),
		       median(way, rounds, offsetof(struct figures, one_source_us)),
		       median(way, rounds, offsetof(struct figures, one_mirror_us)),
		       median(way, rounds, offsetof(struct figures, many_source_us)),
		       median(way, rounds, offsetof(struct figures, many_mirror_us)));
	shipping_close();
	world_close();
	return status;
}
