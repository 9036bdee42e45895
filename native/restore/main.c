/*
 * ftrestore: brings the last committed epoch to life in a waiting standby container, and tells its ftinit
 * which process is the application now. One shot; prints one line.
 *
 * With --wait it is started ahead, when a host may have been lost, and does nothing before it hears `go`; if its input ends
 * instead, it was not needed. To start it takes as long as CRIU itself.
 *
 * Invariants:
 *  - ftinit is asked first: nothing is restored into a container that already has an application.
 *  - The restored tasks are in the container's cgroups, and children of its ftinit.
 *  - What failed is killed before we answer: a half-restored application never runs unattended.
 *  - Memory that the images leave out is given by ftfeed, which kills the application if it cannot (native/feed).
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/disk.h"
#include "dump/clock.h"
#include "dump/logs.h"
#include "dump/meta.h"
#include "dump/target.h"
#include "dump/tree.h"
#include "enter/enter.h"
#include "hook/message.h"
#include "line/line.h"
#include "pages/records.h"
#include "restore/feeder.h"
#include "restore/orphans.h"
#include "restore/tcp_image.h"

enum { FIRST_PID = 20000, PID_GAP = 2000, DETAIL_BYTES_MAX = 1536 };

struct restore {
	pid_t init_pid;
	const char *toolkit_path, *hook_path, *images_path, *log_path;
	uint64_t timeout_ms, tcp_segments;
	const char *kdat_path; /* NULL: beside the log */
	struct enter_toolkit toolkit;
	struct enter_container container;
	int images, work, kdat;
	char log_name[NAME_MAX + 1];
	struct meta meta;
	int init; /* connection to ftinit */
	bool clear; /* nothing is restored: only what an earlier one left is ended */
	bool waits; /* the process is not the application yet: somebody tells ftinit when it is */
	int stdio[3];
	int rewritten;
	struct feeder feeder;
	uint64_t feed_us, criu_us, adopt_us;
	char detail[DETAIL_BYTES_MAX];
};

static int fail(struct restore *self, const char *code, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int fail(struct restore *self, const char *code, int error, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(self->detail, sizeof self->detail, format, arguments);
	va_end(arguments);
	struct line_writer line;
	line_begin(&line, "fail");
	line_raw(&line, "code", code);
	line_i64(&line, "errno", error);
	line_text(&line, "log", self->log_path);
	line_text(&line, "detail", self->detail);
	line_end(&line);
	(void)!write(STDOUT_FILENO, line.text, line.length);
	return 1;
}

/* ---- before ---- */

static int open_log_directory(struct restore *self)
{
	char directory[PATH_MAX], name[PATH_MAX];
	if (strlen(self->log_path) >= sizeof directory) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(directory, self->log_path);
	strcpy(name, self->log_path);
	const char *base = basename(name);
	if (strlen(base) >= sizeof self->log_name) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(self->log_name, base);
	self->work = open(dirname(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *kdat = self->kdat_path == NULL ? "kdat" : self->kdat_path;
	if (self->work < 0 || (mkdirat(self->work, kdat, 0700) != 0 && errno != EEXIST))
		return -1;
	self->kdat = openat(self->work, kdat, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Left by a CRIU that died while writing it, it would keep every later one from caching. */
	if (self->kdat >= 0 && unlinkat(self->kdat, "criu.kdat.tmp", 0) != 0 && errno != ENOENT)
		return -1;
	return self->kdat < 0 ? -1 : 0;
}

/* Only a waiting ftinit may get an application. */
static int ask_init(struct restore *self)
{
	char reply[LINE_BYTES_MAX];
	self->init = enter_connect_init(&self->container);
	if (self->init < 0)
		return fail(self, "init", errno, "ftinit does not listen: %s", strerror(errno));
	if (target_ask(self->init, "status\n", reply, sizeof reply) != 0)
		return fail(self, "init", errno, "ftinit does not answer: %s", strerror(errno));
	struct line line;
	const char *state = line_parse(reply, strlen(reply), &line) == 0 ? line_get(&line, "state") : NULL;
	if (state == NULL || strcmp(state, "waiting") != 0)
		return fail(self, "busy", EBUSY, "the container is not waiting for an application: %s",
			    state == NULL ? "no state" : state);
	return 0;
}

static int open_all(struct restore *self)
{
	if (open_log_directory(self) != 0)
		return fail(self, "io", errno, "%s: %s", self->log_path, strerror(errno));
	self->images = open(self->images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (self->images < 0)
		return fail(self, "io", errno, "%s: %s", self->images_path, strerror(errno));
	if (enter_toolkit_open(&self->toolkit, self->toolkit_path, self->hook_path) != 0)
		return fail(self, "toolkit", errno, "%s: %s", self->toolkit_path, strerror(errno));
	if (enter_container_open(&self->container, self->init_pid) != 0)
		return fail(self, "gone", errno, "the container has ended");
	if (meta_read(self->images, &self->meta) != 0)
		return fail(self, "corrupt", errno, "%s/%s: %s", self->images_path, META_NAME, strerror(errno));
	self->rewritten = tcp_images_rewrite(self->images, self->tcp_segments);
	if (self->rewritten < 0)
		return fail(self, "corrupt", errno, "%s: TCP images: %s", self->images_path, strerror(errno));
	return ask_init(self);
}

/* Every thread has a core-<tid>.img. CRIU's own pids must not be among those that it is about to restore. */
static bool pids_collide(int images, long first)
{
	DIR *listing = disk_list(images, ".");
	if (listing == NULL)
		return false;
	bool collide = false;
	for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
		long tid;
		if (sscanf(entry->d_name, "core-%9ld.img", &tid) == 1 && tid >= first && tid < first + PID_GAP)
			collide = true;
	}
	closedir(listing);
	return collide;
}

static pid_t choose_first_pid(int images)
{
	for (long first = FIRST_PID; first < 32768 - PID_GAP; first += PID_GAP)
		if (!pids_collide(images, first))
			return (pid_t)first;
	for (long first = 300; first < FIRST_PID; first += PID_GAP)
		if (!pids_collide(images, first))
			return (pid_t)first;
	return FIRST_PID;
}

/* ---- CRIU ---- */

/* What ftinit has as 0, 1 and 2, opened by us: those are the pipes to Docker. */
static void open_stdio(struct restore *self)
{
	for (int i = 0; i < 3; i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)self->init_pid, i);
		self->stdio[i] = self->meta.pipe_ino[i] == 0 ? -1 : open(path, (i == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC | O_NONBLOCK);
		if (self->stdio[i] >= 0)
			(void)fcntl(self->stdio[i], F_SETFL, 0); /* blocking, as the pipe's other users have it */
	}
}

static pid_t spawn(struct restore *self, int *pidfd, const char **stage)
{
	enum { FIXED = 20 };
	static char inherit[3][64];
	char *arguments[FIXED + 2 * 3 + 2] = {
		"restore", "--restore-detached", "--images-dir", ENTER_IMAGES_PATH, "--work-dir", ENTER_WORK_PATH,
		"--log-file", self->log_name, "-v2", "--tcp-established", "--skip-in-flight",
		"--network-lock", "skip", "--manage-cgroups=ignore", "--file-validation", "filesize",
		"--file-locks", "--link-remap", "--cpu-cap=none",
	};
	size_t count = FIXED - 1;
	for (int i = 0; i < 3; i++) {
		bool same = i == 2 && self->meta.pipe_ino[2] == self->meta.pipe_ino[1];
		if (self->stdio[i] < 0 || same)
			continue;
		snprintf(inherit[i], sizeof inherit[i], "fd[%d]:pipe:[%" PRIu64 "]", ENTER_STDIO + i, self->meta.pipe_ino[i]);
		arguments[count++] = "--inherit-fd";
		arguments[count++] = inherit[i];
	}
	if (self->feeder.control >= 0)
		arguments[count++] = "--lazy-pages";
	char *const environment[] = { HOOK_ENV_KDAT "=" ENTER_KDAT_PATH, HOOK_ENV_SEND_WINDOW "=1",
				      "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	const struct enter_spawn how = {
		.container = &self->container, .toolkit = &self->toolkit,
		.images = self->images, .work = self->work, .kdat = self->kdat, .socket = -1, .areas = -1,
		.stdio = { self->stdio[0], self->stdio[1], self->stdio[2] },
		.join_cgroups = true, .first_pid = choose_first_pid(self->images),
		.arguments = arguments, .environment = environment,
	};
	return enter_spawn(&how, pidfd, stage);
}

/* Waits for the end of CRIU; a detached restore ends when the tasks run. */
static int await_criu(struct restore *self, pid_t pid, int pidfd, int *status)
{
	uint64_t deadline = clock_us() + self->timeout_ms * 1000;
	struct pollfd ready = { .fd = pidfd, .events = POLLIN };
	int count;
	do
		count = poll(&ready, 1, clock_left_ms(deadline));
	while (count < 0 && errno == EINTR);
	if (count == 0)
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* fails only if it is dead */
	while (waitpid(pid, status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return count == 0 ? -1 : 0;
}

/* A socket in repair mode is closed without a frame: those who are connected to it wait for the next try. */
static void silence(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	DIR *listing = opendir(path);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	for (struct dirent *entry; listing != NULL && pidfd >= 0 && (entry = readdir(listing)) != NULL;) {
		int on = 1, fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(entry->d_name), 0);
		/* Most are no TCP sockets, and refuse. */
		if (fd >= 0 && entry->d_name[0] != '.')
			(void)setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on);
		if (fd >= 0)
			close(fd);
	}
	if (listing != NULL)
		closedir(listing);
	if (pidfd >= 0)
		close(pidfd);
}

/* One that does not stand yet may make others meanwhile: read again until there is none that is new. */
static void stop_all(struct tree *tree, pid_t root)
{
	enum { READS_MAX = 16 };
	size_t known = 0;
	for (int i = 0; i < READS_MAX && tree_read(tree, root) == 0 && tree->processes != known; i++) {
		known = tree->processes;
		for (size_t at = 0; at < tree->processes; at++)
			(void)kill(tree->pid[at], SIGSTOP);
	}
}

/* Whatever CRIU, or an earlier restore, left behind: a child of ftinit that nobody asked for, and all below it. */
static void kill_processes(struct restore *self)
{
	enum { GONE_ROUNDS = 1000, ROUND_US = 1000 };
	static struct tree tree; /* too large for a stack */
	pid_t root = tree_child_called(self->init_pid, self->meta.app_pid);
	if (root <= 0)
		return;
	stop_all(&tree, root);
	for (size_t i = 0; i < tree.processes; i++)
		silence(tree.pid[i]);
	for (size_t i = 0; i < tree.processes; i++)
		(void)kill(tree.pid[i], SIGKILL);
	for (size_t i = 0; i < tree.processes; i++) {
		int rounds = 0;
		while (rounds < GONE_ROUNDS && kill(tree.pid[i], 0) == 0) {
			usleep(ROUND_US);
			rounds++;
		}
		if (rounds == GONE_ROUNDS)
			fprintf(stderr, "ftrestore: process %d does not end\n", (int)tree.pid[i]);
	}
}

/* One that ended by itself, in the middle of a replay say, was not silent: its sockets wait for acknowledgements. */
static void kill_leftovers(struct restore *self)
{
	kill_processes(self);
	int orphans = orphans_destroy(self->init_pid);
	if (orphans < 0)
		fprintf(stderr, "ftrestore: sockets that an earlier one left: %s\n", strerror(errno));
	else if (orphans > 0)
		fprintf(stderr, "ftrestore: %d sockets that an earlier one left were ended\n", orphans);
}

static int run_criu(struct restore *self)
{
	const char *stage;
	int pidfd, status = 0;
	uint64_t from = clock_us();
	open_stdio(self);
	if (feeder_start(&self->feeder, self->images, self->images_path, self->log_path, self->init_pid, self->detail, sizeof self->detail) < 0) {
		char why[sizeof self->detail];
		strcpy(why, self->detail);
		return fail(self, "feed", 0, "%s", why);
	}
	self->feed_us = clock_us() - from;
	pid_t pid = spawn(self, &pidfd, &stage);
	if (pid < 0)
		return fail(self, "criu", errno, "CRIU could not be started: %s: %s", stage, strerror(errno));
	int timed_out = await_criu(self, pid, pidfd, &status);
	self->criu_us = clock_us() - from;
	if (timed_out == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	kill_leftovers(self);
	char quoted[DETAIL_BYTES_MAX - 64];
	logs_quote(self->work, self->log_name, quoted, sizeof quoted);
	if (quoted[0] == 0)
		logs_quote(self->work, "criu.stderr", quoted, sizeof quoted);
	return fail(self, timed_out != 0 ? "timeout" : "criu", 0, "%s\n%s",
		    timed_out != 0 ? "CRIU was not done in time" : "CRIU failed", quoted);
}

/* ---- after ---- */

static int adopt(struct restore *self)
{
	char request[64], reply[LINE_BYTES_MAX];
	uint64_t from = clock_us();
	snprintf(request, sizeof request, "adopt pid=%d\n", (int)self->meta.app_pid);
	if (target_ask(self->init, request, reply, sizeof reply) == 0 && strncmp(reply, "ok", 2) == 0) {
		self->adopt_us = clock_us() - from;
		return 0;
	}
	kill_leftovers(self);
	return fail(self, "init", errno, "ftinit did not adopt pid %d: %s", (int)self->meta.app_pid, reply);
}

static int restore(struct restore *self)
{
	uint64_t from = clock_us();
	if (open_all(self) != 0)
		return 1;
	if (self->clear)
		kill_leftovers(self);
	else if (run_criu(self) != 0 || (!self->waits && adopt(self) != 0))
		return 1;
	struct line_writer line;
	line_begin(&line, "ok");
	line_i64(&line, "pid", self->meta.app_pid);
	line_u64(&line, "restore_us", clock_us() - from);
	line_u64(&line, "feed_us", self->feed_us);
	line_u64(&line, "criu_us", self->criu_us);
	line_u64(&line, "adopt_us", self->adopt_us);
	line_i64(&line, "tcp_resent", self->rewritten);
	line_u64(&line, "lazy_bytes", self->feeder.pages * PAGE_BYTES);
	line_i64(&line, "feeder", self->feeder.pid);
	line_end(&line);
	return write(STDOUT_FILENO, line.text, line.length) == (ssize_t)line.length ? 0 : 1;
}

/* Started ahead: what does not depend on the images, then the word. False: nobody wants it. */
static bool hears_go(void)
{
	char word[4];
	size_t have = 0;
	while (have < 3) {
		ssize_t got = read(STDIN_FILENO, word + have, 3 - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		have += (size_t)got;
	}
	/* As if it had been started now: what is restored shall not hold our starter's pipe. */
	int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0)
		return false;
	close(nothing);
	return memcmp(word, "go\n", 3) == 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: ftrestore --init-pid PID --toolkit DIR --hook LIB --images DIR --log FILE\n"
			"                 [--kdat DIR] [--timeout-ms 30000] [--tcp-segments 10] [--clear | --no-adopt] [--wait]\n");
	return 2;
}

int main(int argc, char **argv)
{
	enum { INIT = 1, TOOLKIT, HOOK, IMAGES, LOG, TIMEOUT, SEGMENTS, KDAT, CLEAR, NO_ADOPT, WAIT };
	static const struct option known[] = {
		{ "init-pid", 1, NULL, INIT }, { "toolkit", 1, NULL, TOOLKIT }, { "hook", 1, NULL, HOOK },
		{ "images", 1, NULL, IMAGES }, { "log", 1, NULL, LOG },		{ "timeout-ms", 1, NULL, TIMEOUT },
		{ "tcp-segments", 1, NULL, SEGMENTS }, { "kdat", 1, NULL, KDAT },
		{ "clear", 0, NULL, CLEAR },	 { "no-adopt", 0, NULL, NO_ADOPT }, { "wait", 0, NULL, WAIT },
		{ NULL, 0, NULL, 0 },
	};
	static struct restore self = { .timeout_ms = 30000, .tcp_segments = TCP_IMAGE_SEGMENTS, .init = -1, .stdio = { -1, -1, -1 },
				       .feeder = { .control = -1 } };
	uint64_t number = 0;
	int bad = 0;
	bool ahead = false;
	signal(SIGPIPE, SIG_IGN);
	for (int kind; (kind = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		switch (kind) {
		case INIT: bad |= line_parse_u64(optarg, &number) != 0; self.init_pid = (pid_t)number; break;
		case TOOLKIT: self.toolkit_path = optarg; break;
		case HOOK: self.hook_path = optarg; break;
		case IMAGES: self.images_path = optarg; break;
		case LOG: self.log_path = optarg; break;
		case TIMEOUT: bad |= line_parse_u64(optarg, &self.timeout_ms) != 0; break;
		case SEGMENTS: bad |= line_parse_u64(optarg, &self.tcp_segments) != 0 || self.tcp_segments > 1000000; break;
		case KDAT: self.kdat_path = optarg; break;
		case CLEAR: self.clear = true; break;
		case NO_ADOPT: self.waits = true; break;
		case WAIT: ahead = true; break;
		default: return usage();
		}
	}
	if (bad || optind != argc || self.init_pid <= 1 || self.toolkit_path == NULL || self.hook_path == NULL ||
	    self.images_path == NULL || self.log_path == NULL)
		return usage();
	if (ahead && !hears_go())
		return 0;
	return restore(&self);
}
