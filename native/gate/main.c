/* ftgate: starts closed, serves until told to quit or killed. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "gate/gate.h"
#include "gate/invariant.h"
#include "gate/wakeup.h"

#define EVENTS_A_TURN 32
#define FRAMES_A_TURN 64u
#define START_PATIENCE_NS 500000000ull

/* Counts while the machine sleeps, too: a lease must not outlive a suspend. */
uint64_t clock_now_ns(void)
{
	struct timespec now;
	INVARIANT(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int fail(const char *code, const char *detail, int error)
{
	struct line_writer line;
	line_fail(&line, code, error, detail);
	fwrite(line.text, 1, line.length, stdout);
	fflush(stdout);
	fprintf(stderr, "%.*s", (int)line.length, line.text);
	return 1;
}

static int fail_step(const char *code, const char *subject, const char *step)
{
	char detail[256];
	int error = errno;
	snprintf(detail, sizeof detail, "%s: %s: %s", subject, step, strerror(error));
	return fail(code, detail, error);
}

static int open_log(const char *path)
{
	if (path == NULL)
		return 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	int result = dup2(fd, STDERR_FILENO) < 0 ? -1 : 0;
	close(fd);
	return result;
}

static int watch(struct gate *gate, int fd, enum wakeup kind, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u64 = wakeup_data(kind, 0)};
	return epoll_ctl(gate->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* A gate that was killed may still be letting go of its socket and its interfaces. True: worth another try. */
static bool is_still_busy(uint64_t deadline_ns)
{
	struct timespec pause = {.tv_nsec = 5000000};
	int error = errno;
	if ((error != EBUSY && error != EADDRINUSE) || clock_now_ns() >= deadline_ns)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

static int open_lan(struct gate *gate, uint64_t deadline_ns, const char **step)
{
	const struct options *options = gate->options;
	struct tap_options lan = {
		.name = options->lan_if, .mtu = options->mtu, .netns_fd = -1, .bridge = options->uplink};
	/* A bridge takes the lowest address of its ports for itself: one that begins with fe never is. It never sends. */
	memcpy(lan.mac, options->mac, MAC_BYTES);
	lan.mac[0] = options->mac[0] == 0xfe ? 0xf6 : 0xfe;
	int result;
	do
		result = tap_open(&gate->lan, &lan, step);
	while (result != 0 && is_still_busy(deadline_ns));
	if (result != 0)
		return -1;
	*step = "epoll";
	return watch(gate, gate->lan.fd, WAKE_LAN, 0);
}

static int open_signals(struct gate *gate)
{
	sigset_t set;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return fd < 0 ? -1 : watch(gate, fd, WAKE_SIGNAL, EPOLLIN);
}

static int open_control(struct gate *gate, uint64_t deadline_ns)
{
	int result;
	do
		result = control_open(&gate->control, gate->options->control, gate->epoll_fd);
	while (result != 0 && is_still_busy(deadline_ns));
	return result;
}

static int open_container(struct gate *gate, uint64_t deadline_ns, const char **step)
{
	int result;
	if (gate->options->netns_pid == 0)
		return 0;
	do
		result = container_attach(gate, gate->options->netns_pid, step);
	while (result != 0 && is_still_busy(deadline_ns));
	return result;
}

/* 0, or the exit status. The control socket comes first (it is the lock), the interfaces last. */
static int start(struct gate *gate)
{
	const struct options *options = gate->options;
	const char *step = "";
	uint64_t deadline_ns = clock_now_ns() + START_PATIENCE_NS;
	gate->mode = MODE_CLOSED;
	gate->generation = options->generation;
	gate->container.fd = gate->lan.fd = gate->cpu_fd = gate->links_fd = -1;
	gate->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (gate->epoll_fd < 0 || open_signals(gate) != 0)
		return fail_step("start", "epoll", "signals");
	if (open_control(gate, deadline_ns) != 0)
		return fail_step("control", options->control, "control socket");
	if (hold_open(&gate->held, options->held_bytes_max) != 0 ||
	    hold_open(&gate->queued, options->queued_bytes_max) != 0)
		return fail_step("memory", "arena", "mmap");
	if (beat_open(gate) != 0)
		return fail_step("heartbeat", "heartbeat socket", "bind");
	if (gate->beat_fd >= 0 && watch(gate, gate->beat_fd, WAKE_BEAT, EPOLLIN) != 0)
		return fail_step("heartbeat", "heartbeat socket", "epoll");
	if (copying_open(gate) != 0)
		return fail_step("heartbeat", "socket for copies of input", "bind");
	if (ship_open(gate, &step) != 0)
		return fail("ship", step, 0);
	if (uplink_open(gate) != 0 || watch(gate, gate->links_fd, WAKE_LINKS, EPOLLIN) != 0)
		return fail_step("uplink", options->uplink, "bridge");
	if (open_lan(gate, deadline_ns, &step) != 0)
		return fail_step("lan", options->lan_if, step);
	if (open_container(gate, deadline_ns, &step) != 0)
		return fail_step("attach", options->container_if, step);
	return 0;
}

/* Reading stops where there is no room, and in takeover: the senders' kernels see a slow link. */
static uint32_t container_interest(struct gate *gate)
{
	bool reads = gate->mode == MODE_CLOSED || (gate->mode != MODE_TAKEOVER && egress_has_room(gate));
	bool waits = gate->container_sink.blocked && gate->queued.frames > 0 && ingress_flows(gate);
	return (reads ? EPOLLIN : 0u) | (waits ? EPOLLOUT : 0u);
}

static uint32_t lan_interest(struct gate *gate)
{
	bool reads = gate->mode == MODE_CLOSED || ingress_has_room(gate);
	bool waits = gate->lan_sink.blocked && gate->held.frames > 0;
	return (reads ? EPOLLIN : 0u) | (waits ? EPOLLOUT : 0u);
}

static void set_interest(struct gate *gate, int fd, enum wakeup kind, uint32_t wanted, uint32_t *current)
{
	struct epoll_event event = {.events = wanted, .data.u64 = wakeup_data(kind, 0)};
	if (fd < 0 || wanted == *current)
		return;
	INVARIANT(epoll_ctl(gate->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0);
	*current = wanted;
}

static int turn_timeout_ms(const struct gate *gate)
{
	uint64_t deadline_ns = beat_deadline_ns(gate);
	/* Without heartbeats nothing else retries a blocked sink. */
	if (gate->beat_fd < 0 && (gate->lan_sink.blocked || gate->container_sink.blocked))
		return 10;
	if (deadline_ns == UINT64_MAX)
		return -1;
	uint64_t now_ns = clock_now_ns();
	return deadline_ns <= now_ns ? 0 : (int)((deadline_ns - now_ns + 999999) / 1000000);
}

static void tap_ready(struct gate *gate, enum wakeup kind, uint32_t events)
{
	bool container = kind == WAKE_CONTAINER;
	if (events & EPOLLOUT)
		*(container ? &gate->container_sink.blocked : &gate->lan_sink.blocked) = false;
	if (container && (events & EPOLLERR)) {
		/* The device has died with its namespace; a mode that does not read would not notice otherwise. */
		errno = EBADFD;
		container_lost(gate);
	} else if (container) {
		/* Input that came before this output is told of with it. */
		if (gate->mode == MODE_LOG)
			ingress_read(gate, FRAMES_A_TURN);
		egress_read(gate, FRAMES_A_TURN);
	} else {
		INVARIANT((events & EPOLLERR) == 0);
		ingress_read(gate, FRAMES_A_TURN);
	}
}

static void dispatch(struct gate *gate, const struct epoll_event *event)
{
	enum wakeup kind = (enum wakeup)(event->data.u64 & 0xffffffff);
	switch (kind) {
	case WAKE_CONNECTION:
		control_ready(gate, (unsigned)(event->data.u64 >> 32), event->events);
		break;
	case WAKE_LISTEN:
		control_accept(&gate->control);
		break;
	case WAKE_BEAT:
		beat_receive(gate);
		break;
	case WAKE_LINKS:
		uplink_changed(gate);
		break;
	case WAKE_SIGNAL:
		/* Told to stop, not to remove: the interfaces wait for the next gate. */
		gate->quit = true;
		break;
	case WAKE_SHIP_LISTEN:
		ship_accept(gate);
		break;
	case WAKE_SHIP:
		ship_ready(gate, (unsigned)(event->data.u64 >> 32));
		break;
	case WAKE_CONTAINER:
	case WAKE_LAN:
		tap_ready(gate, kind, event->events);
		break;
	}
}

/* Where output waits for microseconds, what usually comes within them. `before`: the counters at the turn's begin. */
static enum spin_hope hope_of(const struct gate *gate, const struct counters *before)
{
	if (gate->mode != MODE_LOG && gate->mode != MODE_OPEN)
		return SPIN_NOTHING;
	if (gate->held.frames > 0)
		return SPIN_ACK;
	if (gate->count.delivered_frames != before->delivered_frames)
		return SPIN_ANSWER;
	return gate->count.released_frames != before->released_frames ? SPIN_REQUEST : SPIN_NOTHING;
}

/* 0: nothing came while it paid to ask. */
static int spin_for_events(struct gate *gate, struct epoll_event events[EVENTS_A_TURN])
{
	uint64_t asked_ns = clock_now_ns(), now_ns = asked_ns;
	if (!spin_begin(&gate->spin, gate->hope, asked_ns))
		return 0;
	do {
		asked_ns = now_ns;
		int count = epoll_wait(gate->epoll_fd, events, EVENTS_A_TURN, 0);
		if (count != 0) {
			spin_paid(&gate->spin);
			return count;
		}
		/* Whom we wait for may want this very processor. */
		sched_yield();
		now_ns = clock_now_ns();
	} while (spin_goes_on(&gate->spin, asked_ns, now_ns));
	return 0;
}

/* The log is polled every millisecond while it moves, which epoll_wait() is too coarse for. */
static int wait_for_events(struct gate *gate, struct epoll_event events[EVENTS_A_TURN])
{
	uint64_t ship_ns = ship_deadline_ns(gate), now_ns = clock_now_ns();
	int timeout_ms = turn_timeout_ms(gate);
	uint64_t beat_ns = timeout_ms < 0 ? UINT64_MAX : now_ns + (uint64_t)timeout_ms * 1000000;
	if (ship_ns >= beat_ns)
		return epoll_wait(gate->epoll_fd, events, EVENTS_A_TURN, timeout_ms);
	uint64_t left_ns = ship_ns <= now_ns ? 0 : ship_ns - now_ns;
	struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000), .tv_nsec = (long)(left_ns % 1000000000)};
	return epoll_pwait2(gate->epoll_fd, events, EVENTS_A_TURN, &left, NULL);
}

static void turn(struct gate *gate)
{
	struct epoll_event events[EVENTS_A_TURN];
	set_interest(gate, gate->container.fd, WAKE_CONTAINER, container_interest(gate), &gate->container_interest);
	set_interest(gate, gate->lan.fd, WAKE_LAN, lan_interest(gate), &gate->lan_interest);
	int count = 0;
	/* Nothing else to do: nothing more will go with it. */
	if (ship_output_waits(gate) && (count = epoll_wait(gate->epoll_fd, events, EVENTS_A_TURN, 0)) == 0)
		ship_flush(gate);
	ship_watch(gate);
	if (count == 0)
		count = spin_for_events(gate, events);
	if (count == 0)
		count = wait_for_events(gate, events);
	INVARIANT(count >= 0 || errno == EINTR);
	struct counters before = gate->count;
	gate->now_ns = clock_now_ns();
	for (int i = 0; i < count; i++)
		dispatch(gate, &events[i]);
	gate->now_ns = clock_now_ns();
	beat_tick(gate);
	ship_turn(gate);
	ingress_deliver(gate);
	egress_release(gate);
	gate->hope = hope_of(gate, &before);
	control_sweep(gate);
}

static void stop(struct gate *gate)
{
	fprintf(stderr, "stopping, interfaces %s\n", gate->remove_on_quit ? "removed" : "left in place");
	if (gate->remove_on_quit) {
		tap_remove(&gate->container);
		tap_remove(&gate->lan);
	}
	if (gate->beat_fd >= 0)
		close(gate->beat_fd);
	ship_close(gate);
	copying_close(gate);
	control_close(&gate->control, gate->options->control);
}

int main(int argc, char **argv)
{
	static struct options options;
	static struct gate gate;
	char why[256];
	if (options_parse(argc, argv, &options, why, sizeof why) != 0) {
		fail("usage", why, 0);
		return 2;
	}
	if (open_log(options.log) != 0)
		return fail_step("log", options.log, "open");
	setvbuf(stderr, NULL, _IOLBF, 0);
	gate.options = &options;
	spin_open(&gate.spin, options.spin_ns);
	int status = start(&gate);
	if (status != 0)
		return status;
	printf("ok program=ftgate protocol=%d pid=%d\n", LINE_PROTOCOL, getpid());
	fflush(stdout);
	fprintf(stderr, "ftgate of pair %s serves, generation %llu\n", options.pair, (unsigned long long)gate.generation);
	while (!gate.quit)
		turn(&gate);
	stop(&gate);
	return 0;
}
