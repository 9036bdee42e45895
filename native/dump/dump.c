#include "dump/dump.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dump/clock.h"
#include "dump/logs.h"
#include "dump/meta.h"
#include "dump/scan.h"
#include "dump/target.h"
#include "fault/fault.h"
#include "feed/notice.h"
#include "line/line.h"
#include "vma/link.h"

enum {
	START_US_MAX = 10000000,  /* from starting CRIU to parked; the first time it probes the kernel */
	GATE_US_MAX = 1000000,
	FED_MS_MAX = 5000,        /* for what is missing of a restored application's memory */
	GRACE_US_MAX = 2000000,   /* over the freeze limit, for CRIU to undo everything */
	ENDING_MS_MAX = 100,      /* for the end of a container whose ftinit does not listen any more */
	EXIT_US_MAX = 5000000,    /* from the thaw to CRIU's exit */
	PAGES_BYTES_MORE = 256 << 10,
	PAGES_BYTES_MAX = 64 << 20, /* is held while CRIU is parked */
	FILES_US_SHORT = 800, /* about what CRIU has left to do when memory has been looked through */
	EARLY_MAX = 64, /* dumps with an early freeze after a late one in vain: 1, 2, 4, … */
};

/* What one dump_epoch() holds; everything in it is let go by finish(). */
struct attempt {
	struct dumper *self;
	const struct dump_request *request;
	struct dump_result *result;
	int blob;
	struct epoch_writer *writer;
	struct scan scan;
	bool late;    /* the freeze may be late */
	bool let_go;  /* CRIU was told to seize */
	bool thawed;  /* ... and the tasks run again */
	bool scanned; /* files_scan() was called: commit or rollback */
	bool read;    /* ... and has ended */
	struct pages_table *pages; /* after this epoch */
	uint64_t limit_at_us, monotonic_ns;
};

static int fail(struct dumper *self, const char *code, const char *stage, int error, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* The first reason is the one that is told. */
static int fail(struct dumper *self, const char *code, const char *stage, int error, const char *format, ...)
{
	if (self->code != NULL)
		return -1;
	self->code = code;
	self->stage = stage;
	self->error = error;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(self->detail, sizeof self->detail, format, arguments);
	va_end(arguments);
	return -1;
}

static void forget_failure(struct dumper *self)
{
	self->code = self->stage = NULL;
	self->error = 0;
	self->detail[0] = self->log[0] = 0;
}

/* ---- before the freeze ---- */

/* The largest of the last dump's, and a little more: growth beyond it is only slower. */
static void expect_pages(const struct dumper *self, struct engine_places *places)
{
	uint64_t most = self->pages_bytes;
	snprintf(places->pages_name, sizeof places->pages_name, "pages-%" PRIu32 ".img", self->pages_id);
	most += most == 0 ? 0 : most / 8 + PAGES_BYTES_MORE;
	places->pages_bytes = most < PAGES_BYTES_MAX ? most : PAGES_BYTES_MAX;
}

/* What cannot be had is read of smaps instead. */
static int link_areas(struct dumper *self)
{
	if (self->areas_link >= 0 && self->areas_of == self->app_host_pid)
		return self->areas_link;
	if (self->areas_link >= 0)
		close(self->areas_link);
	self->areas_link = self->areas_program < 0 ? -1 : vma_link(self->areas_program, self->app_pid);
	self->areas_of = self->app_host_pid;
	return self->areas_link;
}

static int start_engine(struct dumper *self)
{
	struct engine_places places = {
		.toolkit = &self->toolkit, .container = &self->container,
		.work = self->work, .logs = self->logs, .kdat = self->kdat,
		.app_pid = self->app_pid, .app_host_pid = self->app_host_pid, .quiet = true,
		.shortcuts = self->shortcuts, .areas = link_areas(self), .soft_dirty = self->tracker.mode == TRACK_SOFT_DIRTY,
	};
	const char *stage;
	expect_pages(self, &places);
	if (engine_start(&self->engine, &places, ++self->sequence, &stage) == 0)
		return 0;
	int error = errno;
	return fail(self, "criu", "start", error, "CRIU could not be started: %s: %s", stage, strerror(error));
}

/*
 * The kernel does not let a container's init end before every process of its pid namespace has been waited for,
 * and the parked CRIU is one of them, but a child of ours.
 */
void dump_idle(struct dumper *self)
{
	struct hook_message message;
	if (self->engine.pid != 0 && engine_wait(&self->engine, -1, clock_us(), &message) == ENGINE_EXITED)
		engine_drop(&self->engine, self->work);
}

int dump_arm(struct dumper *self)
{
	forget_failure(self);
	dump_idle(self);
	if (!enter_container_alive(&self->container, 0))
		return fail(self, "gone", "target", ESRCH, "the container has ended");
	if (self->engine.pid == 0 || (self->app_host_pid != 0 && kill(self->app_host_pid, 0) != 0))
		self->app_host_pid = 0; /* asked for anew with every CRIU: pids are recycled */
	if (self->app_host_pid == 0) {
		engine_drop(&self->engine, self->work);
		if (target_find(&self->container, &self->app_pid, &self->app_host_pid, self->detail, sizeof self->detail) != 0) {
			int error = errno;
			bool ended = !enter_container_alive(&self->container, ENDING_MS_MAX);
			self->code = ended || error == ESRCH ? "gone" : "criu";
			self->stage = "target";
			self->error = error;
			if (ended)
				snprintf(self->detail, sizeof self->detail, "the container has ended");
			return -1;
		}
	}
	return self->engine.pid != 0 ? 0 : start_engine(self);
}

static void note_log(struct dumper *self)
{
	char kept[48];
	snprintf(kept, sizeof kept, "fail-%08" PRIu64 ".log", self->engine.sequence);
	if (renameat(self->logs, self->engine.log_name, self->logs, kept) == 0)
		snprintf(self->log, sizeof self->log, "%s/logs/%s", self->work_path, kept);
}

/* CRIU failed: its own words become the detail. */
static int fail_criu(struct dumper *self, const char *stage, const char *what)
{
	char quoted[DETAIL_BYTES_MAX];
	logs_quote(self->logs, self->engine.log_name, quoted, sizeof quoted);
	if (quoted[0] == 0)
		logs_quote(self->logs, "criu.stderr", quoted, sizeof quoted);
	bool gone = kill(self->app_host_pid, 0) != 0 && errno == ESRCH;
	return fail(self, gone ? "gone" : "criu", stage, 0, "%s%s%s", gone ? "the application has ended" : what,
		    quoted[0] != 0 ? "\n" : "", quoted);
}

static int await_start(struct dumper *self)
{
	uint64_t deadline = clock_us() + START_US_MAX;
	while (!self->engine.parked) {
		struct hook_message message;
		switch (engine_wait(&self->engine, -1, deadline, &message)) {
		case ENGINE_EXITED:
			return fail_criu(self, "start", "CRIU ended before it was asked to do anything");
		case ENGINE_TIMEOUT:
			engine_drop(&self->engine, self->work);
			return fail(self, "timeout", "start", ETIMEDOUT, "CRIU did not get ready in time");
		default:
			break;
		}
	}
	return 0;
}

/* One that died while it was parked (killed by somebody, out of memory) is replaced, once. */
static int await_parked(struct dumper *self)
{
	struct hook_message message;
	if (await_start(self) != 0)
		return -1;
	if (engine_wait(&self->engine, -1, clock_us(), &message) != ENGINE_EXITED)
		return 0;
	engine_drop(&self->engine, self->work);
	return start_engine(self) == 0 ? await_start(self) : -1;
}

static int open_blob(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	attempt->blob = open(attempt->request->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (attempt->blob >= 0)
		attempt->writer = epoch_writer_open(attempt->blob, self->blob_bytes_max);
	if (attempt->writer != NULL)
		return 0;
	int error = errno;
	return fail(self, "pack", "open", error, "%s: %s", attempt->request->path, strerror(error));
}

static int check_order(struct dumper *self, const struct dump_request *request)
{
	if (request->epoch <= self->last_epoch)
		return fail(self, "usage", "order", EINVAL, "epoch %" PRIu64 " is not above %" PRIu64, request->epoch,
			    self->last_epoch);
	if (request->generation < self->last_generation)
		return fail(self, "usage", "order", EINVAL, "generation %" PRIu64 " is below %" PRIu64,
			    request->generation, self->last_generation);
	return 0;
}

/* Memory that a restore has still to give (native/feed) is in nobody's page tables: CRIU would leave it out as never written. */
static int check_memory(struct dumper *self)
{
	if (!self->fed && notice_await(self->container.init_pid, FED_MS_MAX) != 0 &&
	    enter_container_alive(&self->container, errno == ETIMEDOUT ? 0 : ENDING_MS_MAX)) /* else dump_arm() says so */
		return fail(self, "filling", "memory", errno, "the restored memory is not there yet: %s", strerror(errno));
	self->fed = true;
	return 0;
}

/* What the hook is told to leave out. The list of processes may be older than the freeze: others are dumped whole. */
static int refresh_tracking(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	if (tree_read(&self->tree, self->app_host_pid) != 0)
		return 0;
	attempt->late = (self->shortcuts & HOOK_LATE) != 0 && self->early_left == 0 && self->tree.processes == 1;
	if (self->tracker.mode == TRACK_FULL)
		return 0;
	bool whole = attempt->result->full || self->base_pages == NULL;
	if (track_refresh(&self->tracker, self->tree.pid, self->tree.processes, whole, self->base_images, self->engine.images) == 0)
		return 0;
	return fail(self, "pack", "tracking", errno, "the list of tracked memory: %s", strerror(errno));
}

static int prepare(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	const struct dump_request *request = attempt->request;
	if (check_order(self, request) != 0 || check_memory(self) != 0 || dump_arm(self) != 0 || await_parked(self) != 0)
		return -1;
	if (gate_connect(&self->gate, clock_us() + GATE_US_MAX) != 0)
		return fail(self, "barrier", "connect", errno, "%s", self->gate.error);
	if (open_blob(attempt) != 0)
		return -1;
	attempt->result->full = request->base == 0 || request->base != self->base_epoch;
	if (attempt->result->full && self->blob_unacked)
		files_reset(self->files);
	if (refresh_tracking(attempt) != 0)
		return -1;
	attempt->scan.index = self->files;
	attempt->scan.writer = attempt->writer;
	attempt->scan.tree = &self->tree;
	attempt->scan.root = self->app_host_pid;
	attempt->scan.uses = &self->uses;
	if (scan_prepare(&attempt->scan) != 0)
		return fail(self, "files", "thread", errno, "%s", strerror(errno));
	return 0;
}

/* ---- frozen ---- */

/* What was read before a late freeze is not so any more. */
static int fail_moved(struct dumper *self, const char *stage, const struct hook_message *message)
{
	return fail(self, "moved", stage, 0, "%.*s changed while CRIU was reading", (int)sizeof message->moved, message->moved);
}

static void begin_scan(struct attempt *attempt)
{
	if (attempt->scanned)
		return;
	attempt->scanned = true;
	scan_begin(&attempt->scan);
}

/* The files are read. If all went well the hook need not ask whether it may let the tasks run: it has the answer by then. */
static int end_scan(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	attempt->read = true;
	attempt->result->files_us = self->files_us = attempt->scan.us;
	attempt->result->files = attempt->scan.stats;
	if (attempt->scan.result == 0)
		return engine_say(&self->engine, HOOK_RELEASE, 0) == 0 ? 0 : fail_criu(self, "thaw", "CRIU is gone");
	return fail(self, "files", "scan", attempt->scan.error, "%s: %s", files_error(self->files), strerror(attempt->scan.error));
}

/* Waits for one message of the hook, or notes why it will not come. */
static int await_hook(struct attempt *attempt, enum hook_kind wanted, const char *stage, struct hook_message *message)
{
	struct dumper *self = attempt->self;
	for (;;) {
		int scan = attempt->scanned && !attempt->read ? attempt->scan.done : -1;
		switch (engine_wait(&self->engine, scan, attempt->limit_at_us, message)) {
		case ENGINE_OTHER:
			if (end_scan(attempt) != 0)
				return -1;
			continue;
		case ENGINE_MESSAGE:
			if (message->kind == (uint32_t)wanted)
				return 0;
			if (message->kind == HOOK_SETTLED)
				begin_scan(attempt);
			if (message->kind == HOOK_THAWED)
				attempt->thawed = true; /* CRIU failed and undid everything */
			if (message->kind == HOOK_MOVED)
				(void)fail_moved(self, stage, message);
			continue;
		case ENGINE_EXITED:
			attempt->thawed = true;
			return fail_criu(self, stage, "CRIU failed");
		default:
			return fail(self, "timeout", stage, ETIMEDOUT, "not done within the freeze limit of %" PRIu64 " ms",
				    self->freeze_limit_us / 1000);
		}
	}
}

static void event_frozen(uint64_t epoch)
{
	struct line_writer line;
	line_begin(&line, "event frozen");
	line_u64(&line, "epoch", epoch);
	line_end(&line);
	dump_event(line.text, line.length);
}

static int freeze(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	struct hook_message message;
	struct timespec now;
	attempt->limit_at_us = clock_us() + self->freeze_limit_us;
	if (engine_go(&self->engine, self->freeze_limit_us, attempt->late) != 0) {
		engine_drop(&self->engine, self->work);
		return fail(self, "criu", "seize", EPIPE, "CRIU has ended while it was parked");
	}
	attempt->let_go = true;
	if (await_hook(attempt, HOOK_FROZEN, "seize", &message) != 0) {
		/* What it was reading may have gone under its hands. */
		if (attempt->late && self->code != NULL && strcmp(self->code, "criu") == 0)
			self->code = "moved";
		return -1;
	}
	/* Nobody in the container has seen a later time. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	attempt->monotonic_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	attempt->result->frozen_at_us = attempt->monotonic_ns / 1000 - message.frozen_us;
	attempt->result->freeze_us = message.frozen_us;
	return 0;
}

static int await_scan(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	struct hook_message message;
	begin_scan(attempt);
	while (!attempt->read) {
		switch (engine_wait(&self->engine, attempt->scan.done, attempt->limit_at_us, &message)) {
		case ENGINE_OTHER:
			return end_scan(attempt);
		case ENGINE_MESSAGE:
			if (message.kind == HOOK_THAWED)
				return fail(self, "timeout", "scan", ETIMEDOUT, "CRIU let go before the files were read");
			continue;
		case ENGINE_EXITED:
			attempt->thawed = true;
			return fail_criu(self, "scan", "CRIU ended before the files were read");
		default:
			return fail(self, "timeout", "scan", ETIMEDOUT, "the files were not read within the freeze limit");
		}
	}
	return 0;
}

static int capture(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	struct hook_message message;
	if (gate_mark(&self->gate, attempt->request->epoch, attempt->limit_at_us) != 0)
		return fail(self, "barrier", "mark", errno, "%s", self->gate.error);
	if (self->tell_frozen)
		event_frozen(attempt->request->epoch);
	if (ft_fault("dump.frozen") != 0)
		return fail(self, "criu", "frozen", errno, "an error was injected at dump.frozen");
	/* After a late freeze both cores have much to do at first; what is soon done can wait until one of them has not. */
	if (!attempt->late || self->files_us == 0 || self->files_us > FILES_US_SHORT)
		begin_scan(attempt);
	/* If it is gone, it may have said why. */
	bool told = engine_say(&self->engine, HOOK_CAPTURE, 0) == 0;
	if (await_hook(attempt, HOOK_DETACHING, "capture", &message) != 0)
		return -1;
	if (!told)
		return fail(self, "criu", "capture", EPIPE, "CRIU could not be told that the gate is marked");
	attempt->result->criu_us = message.frozen_us;
	if (message.stale)
		return fail_moved(self, "capture", &message);
	if (message.failed)
		return fail(self, "criu", "capture", EIO, "pages were not written");
	return await_scan(attempt);
}

/* ---- running again ---- */

/* Tells the gate at once, then the agent. */
static void announce_thaw(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	if (gate_thaw(&self->gate, clock_us() + GATE_US_MAX) != 0)
		(void)fail(self, "barrier", "thaw", errno, "%s", self->gate.error);
	struct line_writer line;
	line_begin(&line, "event thawed");
	line_u64(&line, "epoch", attempt->request->epoch);
	line_u64(&line, "pause_us", attempt->result->pause_us);
	line_end(&line);
	dump_event(line.text, line.length);
}

/* CRIU may say nothing of it, as when it was killed. */
static int fail_exit(struct dumper *self)
{
	char how[48];
	bool killed = WIFSIGNALED(self->engine.status);
	snprintf(how, sizeof how, "CRIU failed, %s %d", killed ? "signal" : "status",
		 killed ? WTERMSIG(self->engine.status) : WEXITSTATUS(self->engine.status));
	return fail_criu(self, "exit", how);
}

static int await_exit(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	struct hook_message message;
	uint64_t deadline = clock_us() + EXIT_US_MAX;
	for (;;) {
		switch (engine_wait(&self->engine, -1, deadline, &message)) {
		case ENGINE_EXITED:
			return engine_succeeded(&self->engine) ? 0 : fail_exit(self);
		case ENGINE_TIMEOUT:
			return fail(self, "timeout", "exit", ETIMEDOUT, "CRIU did not end after the thaw");
		default:
			break;
		}
	}
}

static int check_running(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	if (tree_read(&self->tree, self->app_host_pid) != 0)
		return fail(self, "gone", "thaw", ESRCH, "the application has ended");
	attempt->result->processes = self->tree.processes;
	attempt->result->threads = self->tree.threads;
	if (self->tree.traced != 0)
		return fail(self, "criu", "thaw", 0, "%zu threads are still stopped", self->tree.traced);
	return 0;
}

static int thaw(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	struct hook_message message;
	if (await_hook(attempt, HOOK_THAWED, "thaw", &message) != 0)
		return -1;
	attempt->thawed = true;
	attempt->result->pause_us = message.frozen_us;
	attempt->result->phases = message.phases;
	attempt->result->plain = message.plain & (attempt->late ? UINT32_MAX : ~(uint32_t)HOOK_LATE);
	announce_thaw(attempt);
	if (await_exit(attempt) != 0 || check_running(attempt) != 0)
		return -1;
	if (ft_fault("dump.thawed") != 0)
		return fail(self, "criu", "thawed", errno, "an error was injected at dump.thawed");
	return self->code == NULL ? 0 : -1;
}

/* ---- pack ---- */

static uint64_t pipe_of(pid_t pid, int fd)
{
	char path[48], link[64] = "";
	uint64_t inode;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
	if (readlink(path, link, sizeof link - 1) > 0 && sscanf(link, "pipe:[%19" SCNu64 "]", &inode) == 1)
		return inode;
	return 0;
}

static int write_meta(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	struct meta meta = { .app_pid = self->app_pid, .monotonic_ns = attempt->monotonic_ns };
	for (int i = 0; i < 3; i++)
		meta.pipe_ino[i] = pipe_of(self->container.init_pid, i);
	return meta_write(self->engine.images, &meta);
}

static int finish_blob(struct attempt *attempt, struct epoch_header *header)
{
	struct dumper *self = attempt->self;
	snprintf(header->pair, sizeof header->pair, "%s", self->pair);
	files_stamp(self->files, header);
	if (epoch_writer_finish(attempt->writer, header) != 0)
		return fail(self, "pack", "finish", errno, "%s: %s", attempt->request->path, strerror(errno));
	attempt->result->bytes = header->total_bytes;
	files_commit(self->files);
	attempt->scanned = false;
	self->blob_unacked = true;
	self->last_blob_epoch = header->epoch;
	return 0;
}

static int pack_pages(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	struct area *kept;
	size_t count;
	if (track_collect(&self->tracker, self->engine.images, &kept, &count) != 0)
		return fail(self, "pack", "tracking", errno, "what was left out is not known: %s", strerror(errno));
	struct pages_collect collect = {
		.images = self->engine.images, .base = attempt->result->full ? NULL : self->base_pages, .key = &self->page_key,
		.kept = kept, .kept_count = count, .verify = self->tracker.verify, .writer = attempt->writer,
		.packer = self->packer,
	};
	attempt->pages = pages_collect(&collect, &attempt->result->pages);
	int error = errno;
	free(kept);
	if (attempt->pages != NULL)
		return 0;
	return fail(self, "pack", "pages", error, "%s", collect.reason[0] != 0 ? collect.reason : strerror(error));
}

static int pack(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	const struct dump_request *request = attempt->request;
	struct dump_result *result = attempt->result;
	if (files_verify(self->files) != 0)
		return fail(self, "files", "verify", errno, "%s: %s", files_error(self->files), strerror(errno));
	if (ft_fault("dump.pack") != 0)
		return fail(self, "pack", "images", errno, "an error was injected at dump.pack");
	if (pack_pages(attempt) != 0)
		return -1;
	if (write_meta(attempt) != 0 || images_delta(result->full ? -1 : self->base_images, self->engine.images,
						     attempt->writer, &result->images) != 0)
		return fail(self, "pack", "images", errno, "%s", strerror(errno));
	struct epoch_header header = {
		.flags = result->full ? EPOCH_FULL : 0,
		.generation = request->generation,
		.epoch = request->epoch,
		.base_epoch = result->full ? 0 : request->base,
	};
	return finish_blob(attempt, &header);
}

/* ---- the end, whatever happened ---- */

/* Makes CRIU let go of the tasks: by asking, by waiting, and only then by force. */
static void undo_freeze(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	if (self->engine.pid == 0 || !attempt->let_go)
		return;
	if (!attempt->thawed)
		(void)engine_say(&self->engine, HOOK_ABORT, 0); /* a lost socket tells it the same */
	uint64_t now = clock_us();
	uint64_t from = attempt->limit_at_us > now ? attempt->limit_at_us : now;
	struct hook_message message;
	while (self->engine.pid != 0) {
		enum engine_news news = engine_wait(&self->engine, -1, from + GRACE_US_MAX, &message);
		if (news == ENGINE_TIMEOUT) {
			engine_drop(&self->engine, self->work);
			size_t used = strlen(self->detail);
			snprintf(self->detail + used, sizeof self->detail - used, "\nCRIU had to be killed");
		}
	}
}

static bool moved(const struct dumper *self)
{
	return self->code != NULL && strcmp(self->code, "moved") == 0;
}

static void give_back(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	undo_freeze(attempt);
	if (!moved(self))
		track_doubt(&self->tracker); /* else no mark was looked at */
	pages_table_free(attempt->pages);
	attempt->pages = NULL;
	if (attempt->let_go) {
		if (self->gate.marked)
			announce_thaw(attempt);
		if (tree_read(&self->tree, self->app_host_pid) == 0 && self->tree.traced != 0)
			(void)fail(self, "criu", "thaw", 0, "%zu threads are still stopped", self->tree.traced);
	}
	if (self->engine.pid == 0 && self->engine.sequence != 0) {
		if (!moved(self))
			note_log(self);
		engine_drop(&self->engine, self->work);
	}
	scan_end(&attempt->scan);
	if (attempt->scanned)
		files_rollback(self->files);
	if (attempt->blob >= 0)
		(void)unlink(attempt->request->path); /* a blob that is left does not verify */
}

/* The new images become the base of the next delta. */
static void keep_images(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	const struct dump_request *request = attempt->request;
	assert(request->epoch > self->last_epoch && request->generation >= self->last_generation);
	assert(self->garbage_name[0] == 0);
	if (self->base_images >= 0)
		close(self->base_images);
	memcpy(self->garbage_name, self->base_name, sizeof self->garbage_name);
	memcpy(self->base_name, self->engine.images_name, sizeof self->base_name);
	self->base_images = self->engine.images;
	pages_table_free(self->base_pages);
	self->base_pages = attempt->pages;
	/* After a full dump only what is written is expected: much less, and not known yet. */
	bool narrower = attempt->result->full && self->tracker.mode != TRACK_FULL;
	self->pages_bytes = narrower ? 0 : attempt->result->pages.largest_bytes;
	self->pages_id = attempt->result->pages.largest_id;
	attempt->pages = NULL;
	self->base_epoch = self->last_epoch = request->epoch;
	self->last_generation = request->generation;
	engine_init(&self->engine);
}

static void close_attempt(struct attempt *attempt)
{
	scan_end(&attempt->scan);
	epoch_writer_close(attempt->writer);
	if (attempt->blob >= 0)
		close(attempt->blob);
}

static int try_epoch(struct dumper *self, const struct dump_request *request, struct dump_result *result)
{
	uint64_t from = clock_us();
	memset(result, 0, sizeof *result);
	forget_failure(self);
	dump_tidy(self);
	struct attempt attempt = {
		.self = self, .request = request, .result = result, .blob = -1, .scan = { .begin = -1, .done = -1 },
	};
	/* 1 */ int ok = prepare(&attempt) == 0;
	/* 2 */ ok = ok && freeze(&attempt) == 0;
	/* 3 */ ok = ok && capture(&attempt) == 0;
	/* 4 */ ok = ok && thaw(&attempt) == 0;
	uint64_t thawed_at = clock_us();
	/* 5 */ ok = ok && pack(&attempt) == 0;
	if (ok)
		keep_images(&attempt);
	else
		give_back(&attempt);
	close_attempt(&attempt);
	result->pack_us = clock_us() - thawed_at;
	result->wall_us = clock_us() - from;
	assert(!self->gate.marked);
	assert(ok == (self->code == NULL));
	if (attempt.late && ok)
		self->early_next = 1;
	else if (self->early_left > 0)
		self->early_left--;
	return ok ? 0 : -1;
}

/* A late freeze that was in vain is followed by an early one at once, and by more of them where it keeps being so. */
int dump_epoch(struct dumper *self, const struct dump_request *request, struct dump_result *result)
{
	int done = try_epoch(self, request, result);
	if (done == 0 || !moved(self))
		return done;
	fprintf(stderr, "ftdump: epoch %" PRIu64 ": %s; the freeze comes first now\n", request->epoch, self->detail);
	self->early_left = self->early_next > 0 ? self->early_next : 1;
	self->early_next = self->early_left * 2 < EARLY_MAX ? self->early_left * 2 : EARLY_MAX;
	done = try_epoch(self, request, result);
	result->late_in_vain = 1;
	return done;
}

static int presync_into(struct attempt *attempt)
{
	struct dumper *self = attempt->self;
	const struct files_scan_options options = { .frozen = 0 };
	uint64_t from = clock_us();
	attempt->scanned = true;
	if (files_scan(self->files, attempt->writer, &options, &attempt->result->files) != 0)
		return fail(self, "files", "scan", errno, "%s: %s", files_error(self->files), strerror(errno));
	attempt->result->files_us = clock_us() - from;
	struct epoch_header header = { .flags = EPOCH_FILES_ONLY, .generation = attempt->request->generation };
	return finish_blob(attempt, &header);
}

int dump_presync(struct dumper *self, const struct dump_request *request, struct dump_result *result)
{
	uint64_t from = clock_us();
	memset(result, 0, sizeof *result);
	forget_failure(self);
	struct attempt attempt = {
		.self = self, .request = request, .result = result, .blob = -1, .scan = { .begin = -1, .done = -1 },
	};
	int ok = open_blob(&attempt) == 0 && presync_into(&attempt) == 0;
	if (!ok && attempt.scanned)
		files_rollback(self->files);
	if (!ok && attempt.blob >= 0)
		(void)unlink(request->path); /* what is left does not verify */
	close_attempt(&attempt);
	result->wall_us = clock_us() - from;
	return ok ? 0 : -1;
}

void dump_acked(struct dumper *self, uint64_t epoch)
{
	if (epoch == self->last_blob_epoch)
		self->blob_unacked = false;
}

void dump_reset(struct dumper *self)
{
	files_reset(self->files);
	self->blob_unacked = false;
	self->base_epoch = 0;
}

void dump_tidy(struct dumper *self)
{
	if (self->garbage_name[0] != 0)
		(void)engine_remove_images(self->work, self->garbage_name); /* wiped by name on the next start */
	self->garbage_name[0] = 0;
	if (logs_prune(self->logs, self->log_keep) != 0)
		fprintf(stderr, "ftdump: logs: %s\n", strerror(errno));
}

void dump_stop(struct dumper *self)
{
	engine_drop(&self->engine, self->work);
	gate_close(&self->gate);
	files_close(self->files);
	track_close(&self->tracker);
	if (self->areas_link >= 0)
		close(self->areas_link);
	if (self->areas_program >= 0)
		close(self->areas_program);
	pages_table_free(self->base_pages);
	pages_packer_free(self->packer);
	if (self->base_images >= 0)
		close(self->base_images);
	(void)engine_remove_images(self->work, self->base_name); /* the agent removes the whole folder with the pair */
	dump_tidy(self);
	enter_toolkit_close(&self->toolkit);
	enter_container_close(&self->container);
}
