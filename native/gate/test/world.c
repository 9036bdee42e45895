#include "gate/test/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pid_t place_pid[PLACES];
static int place_fd[PLACES];
static int home_fd = -1;
static char folder[32];
char gate_said[4096];
unsigned char sniffed[2048];
size_t sniffed_length, sniffed_longest;

int64_t world_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A process that only keeps a namespace, as a container's first process would. */
static int make_place(enum place place)
{
	int pipe_fd[2];
	char path[64], byte;
	if (pipe2(pipe_fd, O_CLOEXEC) != 0)
		return -1;
	pid_t pid = fork();
	if (pid < 0)
		return -1;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) != 0 || write(pipe_fd[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(pipe_fd[1]);
	bool ready = read(pipe_fd[0], &byte, 1) == 1;
	close(pipe_fd[0]);
	snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
	place_pid[place] = pid;
	place_fd[place] = ready ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	return place_fd[place] < 0 ? -1 : 0;
}

static void drop_place(enum place place)
{
	if (place_pid[place] > 0) {
		kill(place_pid[place], SIGKILL);
		waitpid(place_pid[place], NULL, 0);
	}
	if (place_fd[place] > 0)
		close(place_fd[place]);
	place_pid[place] = 0;
	place_fd[place] = 0;
}

int world_renew(enum place place)
{
	drop_place(place);
	return make_place(place);
}

int world_run(enum place place, const char *format, ...)
{
	char command[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(command, sizeof command, format, arguments);
	va_end(arguments);
	pid_t pid = fork();
	if (pid == 0) {
		if (setns(place_fd[place], CLONE_NEWNET) != 0)
			_exit(126);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	if (status != 0)
		printf("  failed: %s\n", command);
	return status;
}

int world_socket(enum place place, int domain, int type, int protocol)
{
	if (setns(place_fd[place], CLONE_NEWNET) != 0)
		return -1;
	int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
	if (setns(home_fd, CLONE_NEWNET) != 0)
		abort();
	return fd;
}

static int wire(enum place a, const char *a_name, enum place b, const char *b_name)
{
	return world_run(a, "ip link add %s type veth peer name %s netns %d && ip link set %s up && nsenter --net=/proc/%d/ns/net ip link set %s up",
			 a_name, b_name, place_pid[b], a_name, place_pid[b], b_name);
}

static int build(void)
{
	int bad = 0;
	for (enum place place = 0; place < PLACES; place++)
		bad |= world_run(place, "ip link set lo up");
	bad |= world_run(LAN, "ip link add br0 type bridge && ip link set br0 up");
	bad |= world_run(HOST_A, "ip link add br0 type bridge && ip link set br0 up");
	bad |= world_run(HOST_B, "ip link add br0 type bridge && ip link set br0 up");
	bad |= wire(CLIENT, "eth0", LAN, "client");
	bad |= wire(HOST_A, "up0", LAN, "hosta");
	bad |= wire(HOST_B, "up0", LAN, "hostb");
	bad |= wire(HOST_A, "repl0", HOST_B, "repl0");
	bad |= world_run(LAN, "ip link set client master br0 && ip link set hosta master br0 && ip link set hostb master br0");
	bad |= world_run(HOST_A, "ip link set up0 master br0 && ip addr add 10.77.0.1/24 dev repl0");
	bad |= world_run(HOST_B, "ip link set up0 master br0 && ip addr add 10.77.0.2/24 dev repl0");
	/* The tests speak of TCP: neighbours are known, except where ARP is what is tested. */
	bad |= world_run(CLIENT, "ip link set eth0 address " CLIENT_MAC " && ip addr add " CLIENT_IP "/24 dev eth0 && ip neigh add " SERVICE_IP " lladdr " SERVICE_MAC " dev eth0 nud permanent");
	return bad == 0 ? 0 : -1;
}

int world_open(void)
{
	char path[96];
	home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(folder, sizeof folder, "/tmp/ftgate-test-XXXXXX");
	if (home_fd < 0 || mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof path, "%s/key", folder);
	int key = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (key < 0 || write(key, "0123456789abcdef", 16) != 16)
		return -1;
	close(key);
	for (enum place place = 0; place < PLACES; place++)
		if (make_place(place) != 0)
			return -1;
	return build();
}

void world_close(void)
{
	char command[128];
	for (enum place place = 0; place < PLACES; place++)
		drop_place(place);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	if (system(command) != 0)
		printf("  could not remove %s\n", folder);
}

bool world_alone;

static void exec_gate(enum place host, enum place box, const char *path, const char *options, const char *fault)
{
	char text[2048], *argv[64], *save = NULL;
	const char *other = getenv("FTGATE"), *build_folder = getenv("BUILD");
	char program[512];
	int argc = 0;
	const char *peers = host == HOST_A ? "--heartbeat-local 10.77.0.1:7400 --heartbeat-peer 10.77.0.2:7400 "
					   : "--heartbeat-local 10.77.0.2:7400 --heartbeat-peer 10.77.0.1:7400 ";
	snprintf(program, sizeof program, "%s/test/ftgate-sanitized", build_folder == NULL ? "../build" : build_folder);
	snprintf(text, sizeof text,
		 "ftgate --pair cafe --control %s --netns-pid %d --mac " SERVICE_MAC " --uplink br0 --lan-if ftlan0 "
		 "--key-file %s/key --generation 1 --log %s/gate-%d.log %s%s",
		 path, place_pid[box], folder, folder, host, world_alone ? "" : peers, options);
	for (char *word = strtok_r(text, " ", &save); word != NULL && argc < 63; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	if (fault != NULL)
		setenv("FTCTL_FAULT", fault, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setns(place_fd[host], CLONE_NEWNET) == 0)
		execv(other == NULL ? program : other, argv);
	_exit(127);
}

int gate_connect(const struct world_gate *gate)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "%s", gate->path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	close(fd);
	return -1;
}

int gate_start(struct world_gate *gate, enum place host, enum place box, const char *options, const char *fault)
{
	int pipe_fd[2];
	memset(gate, 0, sizeof *gate);
	gate->control = -1;
	snprintf(gate->path, sizeof gate->path, "%s/gate-%d.sock", folder, host);
	if (pipe2(pipe_fd, O_CLOEXEC) != 0)
		return -1;
	fflush(stdout);
	gate->pid = fork();
	if (gate->pid == 0) {
		dup2(pipe_fd[1], STDOUT_FILENO);
		exec_gate(host, box, gate->path, options, fault);
	}
	close(pipe_fd[1]);
	ssize_t length = readable(pipe_fd[0], WAIT_MS) ? read(pipe_fd[0], gate_said, sizeof gate_said - 1) : 0;
	gate_said[length < 0 ? 0 : length] = 0;
	close(pipe_fd[0]);
	if (strncmp(gate_said, "ok ", 3) == 0) {
		gate->control = gate_connect(gate);
		return gate->control < 0 ? -1 : 0;
	}
	int status = 0;
	int64_t until = world_ms() + WAIT_MS;
	while (waitpid(gate->pid, &status, WNOHANG) == 0) {
		if (world_ms() > until)
			kill(gate->pid, SIGKILL);
		poll(NULL, 0, 5);
	}
	gate->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void gate_kill(struct world_gate *gate, int signal)
{
	if (gate->pid > 0) {
		int status = 0;
		kill(gate->pid, signal);
		waitpid(gate->pid, &status, 0);
	}
	if (gate->control >= 0)
		close(gate->control);
	gate->pid = 0;
	gate->control = -1;
}

bool readable(int fd, int wait_ms)
{
	struct pollfd one = {.fd = fd, .events = POLLIN};
	return poll(&one, 1, wait_ms) == 1;
}

bool writable(int fd, int wait_ms)
{
	struct pollfd one = {.fd = fd, .events = POLLOUT};
	return poll(&one, 1, wait_ms) == 1;
}

/* One more line, or NULL when none comes in time. */
static const char *next_line(struct world_gate *gate, int wait_ms)
{
	static char line[4096];
	int64_t until = world_ms() + wait_ms;
	for (;;) {
		char *newline = memchr(gate->buffered, '\n', gate->buffered_length);
		if (newline != NULL) {
			size_t length = (size_t)(newline - gate->buffered);
			size_t copied = length < sizeof line ? length : sizeof line - 1;
			memcpy(line, gate->buffered, copied);
			line[copied] = 0;
			gate->buffered_length -= length + 1;
			memmove(gate->buffered, newline + 1, gate->buffered_length);
			return line;
		}
		int64_t left = until - world_ms();
		if (gate->control < 0 || left < 0 || !readable(gate->control, (int)left))
			return NULL;
		ssize_t n = read(gate->control, gate->buffered + gate->buffered_length,
				 sizeof gate->buffered - gate->buffered_length);
		if (n <= 0)
			return NULL;
		gate->buffered_length += (size_t)n;
	}
}

static void keep_event(struct world_gate *gate, const char *line)
{
	if (gate->event_count == 64) {
		memmove(gate->events[0], gate->events[1], 63 * sizeof gate->events[0]);
		gate->event_count = 63;
	}
	snprintf(gate->events[gate->event_count++], sizeof gate->events[0], "%.255s", line + strlen("event "));
}

static const char *ask(struct world_gate *gate, const char *format, va_list arguments)
{
	char request[4096];
	int length = vsnprintf(request, sizeof request - 1, format, arguments);
	request[length++] = '\n';
	if (gate->control < 0 || send(gate->control, request, (size_t)length, MSG_NOSIGNAL) != length)
		return "";
	for (;;) {
		const char *line = next_line(gate, WAIT_MS);
		if (line == NULL)
			return "";
		if (strncmp(line, "event ", 6) != 0)
			return line;
		keep_event(gate, line);
	}
}

const char *gate_ask(struct world_gate *gate, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	const char *reply = ask(gate, format, arguments);
	va_end(arguments);
	return reply;
}

bool gate_ok(struct world_gate *gate, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	const char *reply = ask(gate, format, arguments);
	va_end(arguments);
	bool ok = strcmp(reply, "ok") == 0 || strncmp(reply, "ok ", 3) == 0;
	if (!ok)
		printf("  %s -> %s\n", format, reply);
	return ok;
}

static const char *find(const char *reply, const char *key)
{
	size_t length = strlen(key);
	for (const char *at = strchr(reply, ' '); at != NULL; at = strchr(at + 1, ' '))
		if (strncmp(at + 1, key, length) == 0 && at[1 + length] == '=')
			return at + 2 + length;
	return NULL;
}

int64_t field(const char *reply, const char *key)
{
	const char *value = find(reply, key);
	return value == NULL ? -1 : strtoll(value, NULL, 10);
}

bool says(const char *reply, const char *pair)
{
	char key[64];
	const char *equals = strchr(pair, '=');
	snprintf(key, sizeof key, "%.*s", (int)(equals - pair), pair);
	const char *value = find(reply, key);
	size_t length = strlen(equals + 1);
	return value != NULL && strncmp(value, equals + 1, length) == 0 && (value[length] == ' ' || value[length] == 0);
}

static bool take_event(struct world_gate *gate, const char *prefix)
{
	for (size_t i = 0; i < gate->event_count; i++) {
		if (strncmp(gate->events[i], prefix, strlen(prefix)) != 0)
			continue;
		gate->event_count--;
		memmove(gate->events[i], gate->events[i + 1], (gate->event_count - i) * sizeof gate->events[0]);
		return true;
	}
	return false;
}

bool gate_event(struct world_gate *gate, const char *prefix, int wait_ms)
{
	int64_t until = world_ms() + wait_ms;
	for (;;) {
		if (take_event(gate, prefix))
			return true;
		int64_t left = until - world_ms();
		const char *line = left < 0 ? NULL : next_line(gate, (int)left);
		if (line == NULL)
			return false;
		if (strncmp(line, "event ", 6) == 0)
			keep_event(gate, line);
	}
}

void gate_forget_events(struct world_gate *gate)
{
	const char *line;
	while ((line = next_line(gate, 0)) != NULL)
		;
	gate->event_count = 0;
}

bool gate_reaches(struct world_gate *gate, const char *key, int64_t least)
{
	int64_t until = world_ms() + WAIT_MS;
	do {
		if (field(gate_ask(gate, "stats"), key) >= least)
			return true;
		poll(NULL, 0, 2);
	} while (world_ms() < until);
	printf("  %s did not reach %lld\n", key, (long long)least);
	return false;
}

int sniffer_open(void)
{
	int fd = world_socket(CLIENT, AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	struct ifreq request = {0};
	strcpy(request.ifr_name, "eth0");
	if (fd < 0 || ioctl(fd, SIOCGIFINDEX, &request) != 0)
		return -1;
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = request.ifr_ifindex};
	int bytes = 16 << 20;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
	return bind(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

int sniffer_count_of(int sniffer, uint16_t ethertype, int wait_ms)
{
	static const unsigned char service[6] = {0x02, 0xf7, 0, 0, 0, 5};
	int count = 0;
	int64_t until = world_ms() + wait_ms;
	unsigned char frame[sizeof sniffed];
	for (;;) {
		ssize_t length = recv(sniffer, frame, sizeof frame, MSG_TRUNC | MSG_DONTWAIT);
		if (length < 0) {
			int64_t left = until - world_ms();
			if (left <= 0)
				return count;
			readable(sniffer, (int)left);
			continue;
		}
		if (memcmp(frame + 6, service, 6) != 0 || (ethertype != 0 && (frame[12] << 8 | frame[13]) != ethertype))
			continue;
		memcpy(sniffed, frame, sizeof frame);
		sniffed_length = (size_t)length;
		if (sniffed_length > sniffed_longest)
			sniffed_longest = sniffed_length;
		count++;
	}
}

int sniffer_count(int sniffer, int wait_ms) { return sniffer_count_of(sniffer, 0, wait_ms); }
