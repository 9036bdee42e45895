/* The verbs of the control socket, one function each. A verb that fails has changed nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gate/gate.h"

#define GARP_COUNT_MAX 100

struct request {
	struct gate *gate;
	uint64_t connection;
	const struct line *line;
	struct line_writer *reply;
};

static void usage(struct request *request, const char *detail)
{
	line_fail(request->reply, "usage", 0, detail);
}

static const char *explain(const char *code)
{
	static const struct {
		const char *code, *why;
	} known[] = {
		{"stale-generation", "the generation is lower than the gate's own"},
		{"fenced", "the peer serves with a higher generation"},
		{"transition", "takeover starts from closed only"},
		{"not-monotonic", "epochs only go up"},
		{"not-marked", "this epoch has not been marked: its output is still being stamped"},
		{"mode", "the gate is not in mode hold or log"},
		{"marked", "an epoch is marked already and was not thawed"},
		{"no-ship", "the gate was started without --ship-local and --ship-peer"},
		{"no-stream", "no log of this generation is being shipped"},
		{"no-base", "no checkpoint that was marked in this stream has been committed"},
		{"not-committed", "the checkpoint of this epoch has not been committed"},
		{"log-full", "there is no room for it in the shipping stream"},
		{"log-broken", "the log file is not what it should be"},
		{"beyond", "no such lane, or the position is not in the stream yet"},
		{"fault", "a fault was injected here"},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(known[i].code, code) == 0)
			return known[i].why;
	return code;
}

static void refuse(struct request *request, const char *code)
{
	line_fail(request->reply, code, strcmp(code, "fault") == 0 ? EIO : 0, explain(code));
}

static void hello(struct request *request)
{
	struct gate *gate = request->gate;
	line_begin(request->reply, "ok");
	line_raw(request->reply, "program", "ftgate");
	line_u64(request->reply, "protocol", LINE_PROTOCOL);
	line_u64(request->reply, "pid", (uint64_t)getpid());
	line_text(request->reply, "pair", gate->options->pair);
	line_raw(request->reply, "mode", mode_name(gate->mode));
	line_u64(request->reply, "generation", gate->generation);
	line_u64(request->reply, "epoch", gate->epoch);
	line_u64(request->reply, "committed", gate->committed);
	line_end(request->reply);
}

static void put_released(struct line_writer *reply, const struct released *released)
{
	line_u64(reply, "released_frames", released->frames);
	line_u64(reply, "released_bytes", released->bytes);
	line_u64(reply, "delay_us_sum", released->delay_us_sum);
	line_u64(reply, "delay_us_max", released->delay_us_max);
}

static void mode(struct request *request)
{
	static const enum mode modes[] = {MODE_CLOSED, MODE_HOLD, MODE_OPEN, MODE_TAKEOVER, MODE_LOG};
	const size_t count = sizeof modes / sizeof *modes;
	struct gate *gate = request->gate;
	const char *name = line_get(request->line, "name");
	uint64_t generation, epoch, discarded;
	struct released released;
	size_t which = 0;
	while (which < count && (name == NULL || strcmp(name, mode_name(modes[which])) != 0))
		which++;
	if (which == count || line_get_u64(request->line, "generation", &generation) != 0 ||
	    line_get_u64_or(request->line, "epoch", 0, &epoch) != 0) {
		usage(request, "mode name=closed|hold|open|takeover|log generation=N [epoch=N]");
		return;
	}
	const char *code = gate_set_mode(gate, modes[which], generation, epoch, &released, &discarded);
	if (code != NULL) {
		refuse(request, code);
		return;
	}
	line_begin(request->reply, "ok");
	line_raw(request->reply, "mode", mode_name(gate->mode));
	line_u64(request->reply, "generation", gate->generation);
	line_u64(request->reply, "epoch", gate->epoch);
	line_u64(request->reply, "discarded_frames", discarded);
	put_released(request->reply, &released);
	line_end(request->reply);
}

static void mark(struct request *request)
{
	struct gate *gate = request->gate;
	uint64_t epoch;
	bool drained = false;
	if (line_get_u64(request->line, "epoch", &epoch) != 0) {
		usage(request, "mark epoch=N");
		return;
	}
	const char *code = gate_mark(gate, epoch, request->connection, &drained);
	if (code != NULL) {
		refuse(request, code);
		return;
	}
	line_begin(request->reply, "ok");
	line_u64(request->reply, "epoch", epoch);
	line_u64(request->reply, "held_frames", gate->held.frames);
	line_u64(request->reply, "held_bytes", gate->held.bytes);
	line_u64(request->reply, "drained", drained);
	if (gate->ship.role == SHIP_SOURCE)
		line_u64(request->reply, "position", gate->ship.source.queue.end);
	line_end(request->reply);
}

static void thaw(struct request *request)
{
	struct gate *gate = request->gate;
	uint64_t marked_us = gate->marked ? (clock_now_ns() - gate->marked_ns) / 1000 : 0;
	uint64_t frames = gate->queued.frames, bytes = gate->queued.bytes;
	bool marked = gate->marked;
	gate_thaw(gate);
	line_begin(request->reply, "ok");
	line_u64(request->reply, "marked", marked);
	line_u64(request->reply, "marked_us", marked_us);
	line_u64(request->reply, "queued_frames", frames);
	line_u64(request->reply, "queued_bytes", bytes);
	line_end(request->reply);
}

static void commit(struct request *request)
{
	struct gate *gate = request->gate;
	uint64_t epoch;
	struct released released;
	if (line_get_u64(request->line, "epoch", &epoch) != 0) {
		usage(request, "commit epoch=N");
		return;
	}
	const char *code = gate_commit(gate, epoch, &released);
	if (code != NULL) {
		refuse(request, code);
		return;
	}
	line_begin(request->reply, "ok");
	line_u64(request->reply, "epoch", epoch);
	put_released(request->reply, &released);
	line_u64(request->reply, "held_frames", gate->held.frames);
	line_u64(request->reply, "held_bytes", gate->held.bytes);
	line_end(request->reply);
}

static void garp(struct request *request)
{
	struct gate *gate = request->gate;
	const char *text = line_get(request->line, "ip");
	struct in_addr ip;
	uint64_t count;
	unsigned char frame[ARP_FRAME_BYTES];
	if (text == NULL || inet_pton(AF_INET, text, &ip) != 1 ||
	    line_get_u64_or(request->line, "count", 3, &count) != 0 || count == 0 || count > GARP_COUNT_MAX) {
		usage(request, "garp ip=A.B.C.D [count=1..100]");
		return;
	}
	if (gate->mode == MODE_CLOSED) {
		line_fail(request->reply, "mode", 0, "a closed gate does not speak for the address");
		return;
	}
	if (gate_fenced(gate)) {
		refuse(request, "fenced");
		return;
	}
	for (uint64_t i = 0; i < 2 * count; i++) {
		frame_gratuitous_arp(frame, i % 2 == 0 ? ARP_FORM_REQUEST : ARP_FORM_REPLY, gate->options->mac, ip);
		if (egress_send_own(gate, frame, sizeof frame) != 0) {
			line_fail(request->reply, "lan", errno, "the LAN side took no frame");
			return;
		}
	}
	line_begin(request->reply, "ok");
	line_u64(request->reply, "sent_frames", 2 * count);
	line_end(request->reply);
}

static void attach(struct request *request)
{
	uint64_t pid;
	const char *step = "";
	if (line_get_u64(request->line, "pid", &pid) != 0 || pid == 0 || pid > 1u << 30) {
		usage(request, "attach pid=PID");
		return;
	}
	if (container_attach(request->gate, (pid_t)pid, &step) != 0) {
		char detail[128];
		int error = errno;
		snprintf(detail, sizeof detail, "%s: %s", step, strerror(error));
		line_fail(request->reply, "attach", error, detail);
		return;
	}
	line_begin(request->reply, "ok");
	line_u64(request->reply, "pid", pid);
	line_end(request->reply);
}

static void lease(struct request *request)
{
	line_begin(request->reply, "ok");
	lease_reply(request->gate, request->reply);
	line_end(request->reply);
}

static void stats(struct request *request)
{
	stats_reply(request->gate, request->line, request->reply);
}

static void subscribe(struct request *request)
{
	struct connection *connection = control_find(&request->gate->control, request->connection);
	if (connection != NULL)
		connection->subscribed = true;
	line_begin(request->reply, "ok");
	line_end(request->reply);
}

static void beat(struct request *request)
{
	struct gate *gate = request->gate;
	const char *app = line_get(request->line, "app");
	uint64_t agent, lan, epoch;
	enum app_state state = APP_NONE;
	bool known = app == NULL;
	for (enum app_state i = APP_NONE; !known && i <= APP_EXITED; i++)
		if (strcmp(app, app_name(i)) == 0) {
			state = i;
			known = true;
		}
	if (!known || line_get_u64_or(request->line, "agent", 1, &agent) != 0 || agent > 1 ||
	    line_get_u64_or(request->line, "lan", 1, &lan) != 0 || lan > 1 ||
	    line_get_u64_or(request->line, "epoch", 0, &epoch) != 0) {
		usage(request, "beat agent=0|1 app=running|exited|none lan=0|1 [epoch=N]");
		return;
	}
	gate->own = (struct own_state){
		.told_ns = gate->now_ns, .app = state, .agent = agent == 1, .lan = lan == 1, .epoch = epoch};
	line_begin(request->reply, "ok");
	line_end(request->reply);
}

static void cpu(struct request *request)
{
	char path[1024];
	if (line_get_text(request->line, "path", path, sizeof path) != 0) {
		usage(request, "cpu path=FILE (cpu.stat or cpuacct.usage)");
		return;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		line_fail(request->reply, "cpu", errno, path);
		return;
	}
	if (request->gate->cpu_fd >= 0)
		close(request->gate->cpu_fd);
	request->gate->cpu_fd = fd;
	line_begin(request->reply, "ok");
	line_end(request->reply);
}

static bool take_role(const struct line *line, enum ship_role *role)
{
	const char *name = line_get(line, "role");
	for (*role = SHIP_NONE; name != NULL && *role <= SHIP_MIRROR; (*role)++)
		if (strcmp(name, ship_role_name(*role)) == 0)
			return true;
	return false;
}

static void log_verb(struct request *request)
{
	struct ship_files files = {0};
	enum ship_role role;
	bool known = take_role(request->line, &role);
	if (known && role != SHIP_NONE)
		known = line_get_text(request->line, "path", files.log, sizeof files.log) == 0;
	if (known && role == SHIP_MIRROR)
		known = line_get_text(request->line, "frames", files.frames, sizeof files.frames) == 0;
	if (!known || line_get_u64_or(request->line, "frames_bytes", 64u << 20, &files.frames_bytes) != 0) {
		usage(request, "log role=source path=FILE | role=mirror path=FILE frames=FILE [frames_bytes=N] | role=none");
		return;
	}
	int error = 0;
	const char *code = ship_start(request->gate, role, &files, &error);
	if (code != NULL && error != 0) {
		line_fail(request->reply, code, error, log_why(-error));
		return;
	}
	if (code != NULL) {
		refuse(request, code);
		return;
	}
	line_begin(request->reply, "ok");
	line_raw(request->reply, "role", ship_role_name(role));
	line_end(request->reply);
}

static void trim(struct request *request)
{
	uint64_t epoch;
	const char *lanes = line_get(request->line, "lanes");
	if (line_get_u64_or(request->line, "epoch", 0, &epoch) != 0 || (epoch == 0 && lanes == NULL)) {
		usage(request, "trim [epoch=N] [lanes=LANE:POSITION,...]");
		return;
	}
	const char *code = ship_trim(request->gate, epoch, lanes);
	if (code != NULL) {
		refuse(request, code);
		return;
	}
	line_begin(request->reply, "ok");
	line_u64(request->reply, "position", request->gate->ship.source.queue.end);
	line_end(request->reply);
}

static void quit(struct request *request)
{
	request->gate->quit = request->gate->remove_on_quit = true;
	line_begin(request->reply, "ok");
	line_end(request->reply);
}

static const struct {
	const char *name;
	void (*run)(struct request *request);
} verbs[] = {
	{"hello", hello}, {"mode", mode},   {"mark", mark},	{"thaw", thaw},	  {"commit", commit},
	{"garp", garp},	  {"attach", attach}, {"lease", lease}, {"stats", stats}, {"subscribe", subscribe},
	{"beat", beat},	  {"cpu", cpu},	    {"log", log_verb},	{"trim", trim},	  {"quit", quit},
};

void verb_run(struct gate *gate, uint64_t connection, const struct line *line, struct line_writer *reply)
{
	struct request request = {gate, connection, line, reply};
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		if (strcmp(verbs[i].name, line->verb) == 0) {
			verbs[i].run(&request);
			return;
		}
	}
	usage(&request, "unknown verb");
}
