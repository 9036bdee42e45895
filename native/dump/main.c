/*
 * ftdump: takes the checkpoints of one container. A child of the agent, spoken to by lines on stdin and
 * stdout (native/line/line.h). Verbs: hello, presync, dump, acked, reset, status, quit. It ends when stdin
 * closes, and never in the middle of a verb.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/disk.h"
#include "dump/clock.h"
#include "dump/dump.h"
#include "dump/shortcuts.h"
#include "line/line.h"
#include "vma/link.h"

enum { EXCLUDES_MAX = 16, WRITE_MS_MAX = 10000, LISTEN_MS = 100 };

struct options {
	pid_t init_pid;
	const char *toolkit, *hook, *work, *kdat, *gate, *roots, *pair;
	const char *exclude[EXCLUDES_MAX];
	size_t excludes;
	uint32_t shortcuts;
	uint64_t log_keep, freeze_ms_max, blob_bytes_max, files_bytes_max;
	enum track_mode track; /* if the kernel can */
	bool no_bits; /* soft-dirty bits are not to be used */
	int packing; /* enum pages_packing */
	bool watch; /* files: what the kernel tells, where it can */
	bool tell_frozen;
};

static struct dumper dumper = { .base_images = -1, .work = -1, .logs = -1, .kdat = -1, .areas_program = -1, .areas_link = -1 };

/* A reader that is gone or stuck must not hold us up for ever. */
static void reply(const struct line_writer *line)
{
	size_t sent = 0;
	while (sent < line->length) {
		struct pollfd ready = { .fd = STDOUT_FILENO, .events = POLLOUT };
		if (poll(&ready, 1, WRITE_MS_MAX) <= 0 || (ready.revents & POLLOUT) == 0)
			return; /* stdin closes as well when the agent is gone */
		ssize_t count = write(STDOUT_FILENO, line->text + sent, line->length - sent);
		if (count < 0 && errno != EINTR && errno != EAGAIN)
			return;
		sent += count > 0 ? (size_t)count : 0;
	}
}

void dump_event(const char *text, size_t length)
{
	struct pollfd ready = { .fd = STDOUT_FILENO, .events = POLLOUT };
	/* Writes of less than PIPE_BUF to a pipe with room are whole. An event may be lost, a freeze may not wait. */
	if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0 && write(STDOUT_FILENO, text, length) < 0)
		fprintf(stderr, "ftdump: event: %s\n", strerror(errno));
}

static void reply_failure(void)
{
	struct line_writer line;
	line_begin(&line, "fail");
	line_raw(&line, "code", dumper.code);
	line_i64(&line, "errno", dumper.error);
	line_raw(&line, "stage", dumper.stage);
	if (dumper.log[0] != 0)
		line_text(&line, "log", dumper.log);
	line_text(&line, "detail", dumper.detail);
	line_end(&line);
	reply(&line);
}

static void reply_usage(const char *detail)
{
	struct line_writer line;
	line_fail(&line, "usage", EINVAL, detail);
	reply(&line);
}

/* Where the pause went, and what was done the plain way. */
static void line_pause(struct line_writer *line, const struct dump_result *result)
{
	static const char *const names[PHASES] = PHASE_NAMES;
	char text[128];
	for (size_t i = 0; i < PHASES; i++) {
		snprintf(text, sizeof text, "%s_phase_us", names[i]);
		line_u64(line, text, result->phases.us[i]);
	}
	line_u64(line, "criu_cpu_us", result->phases.cpu_us);
	line_u64(line, "criu_delay_us", result->phases.delay_us);
	shortcuts_list(result->plain, text, sizeof text);
	if (text[0] != 0)
		line_raw(line, "plain", text);
}

static void reply_dump(const struct dump_request *request, const struct dump_result *result)
{
	struct line_writer line;
	char why[TRACK_WHY_BYTES];
	line_begin(&line, "ok");
	line_u64(&line, "epoch", request->epoch);
	line_u64(&line, "pause_us", result->pause_us);
	line_u64(&line, "frozen_at_us", result->frozen_at_us);
	line_u64(&line, "freeze_us", result->freeze_us);
	line_u64(&line, "criu_us", result->criu_us);
	line_u64(&line, "late_in_vain", result->late_in_vain);
	line_u64(&line, "files_us", result->files_us);
	line_u64(&line, "pack_us", result->pack_us);
	line_u64(&line, "wall_us", result->wall_us);
	line_u64(&line, "bytes", result->bytes);
	line_u64(&line, "image_bytes", result->images.image_bytes);
	line_u64(&line, "changed_blocks", result->images.changed_blocks);
	line_u64(&line, "files_changed", result->files.changed + result->files.removed);
	line_u64(&line, "files_bytes", result->files.captured_bytes);
	line_u64(&line, "files_looked_at", result->files.entries);
	line_u64(&line, "files_told", result->files.told);
	line_u64(&line, "files_walked", result->files.walked);
	if (result->files.why != NULL)
		line_text(&line, "files_why", result->files.why);
	line_u64(&line, "processes", result->processes);
	line_u64(&line, "threads", result->threads);
	line_u64(&line, "more", (uint64_t)result->files.more);
	line_u64(&line, "full", result->full);
	line_pause(&line, result);
	line_raw(&line, "tracking", track_called(dumper.tracker.mode));
	line_u64(&line, "tracked", track_watched(&dumper.tracker));
	track_why_whole(&dumper.tracker, why, sizeof why);
	if (why[0] != 0)
		line_text(&line, "whole_why", why);
	line_u64(&line, "pages", result->pages.pages);
	line_u64(&line, "pages_dumped", result->pages.dumped);
	line_u64(&line, "pages_changed", result->pages.changed + result->pages.zero);
	line_u64(&line, "pages_raw_bytes", result->pages.changed * PAGE_BYTES);
	line_u64(&line, "pages_sent_bytes", result->pages.sent_bytes);
	line_end(&line);
	reply(&line);
}

/* Once a process. */
static void tell_refused(pid_t inside, const char *why)
{
	struct line_writer line;
	line_begin(&line, "event untracked");
	line_i64(&line, "pid", inside);
	line_text(&line, "reason", why);
	line_end(&line);
	fprintf(stderr, "ftdump: the memory of process %d is dumped whole: %s\n", (int)inside, why);
	dump_event(line.text, line.length);
}

static int read_request(const struct line *line, struct dump_request *request, char *path, size_t size)
{
	memset(request, 0, sizeof *request);
	request->path = path;
	if (line_get_u64_or(line, "epoch", 0, &request->epoch) != 0 ||
	    line_get_u64_or(line, "base", 0, &request->base) != 0 ||
	    line_get_u64_or(line, "generation", 0, &request->generation) != 0)
		return -1;
	return line_get_text(line, "path", path, size);
}

static void park_next(void)
{
	if (dump_arm(&dumper) != 0)
		fprintf(stderr, "ftdump: not parked: %s\n", dumper.detail);
}

static void serve_dump(const struct line *line)
{
	static char path[LINE_BYTES_MAX];
	static struct dump_result result;
	struct dump_request request;
	bool presync = strcmp(line->verb, "presync") == 0;
	if (read_request(line, &request, path, sizeof path) != 0 || (request.epoch == 0) != presync) {
		reply_usage(presync ? "presync path=FILE [generation=G]" : "dump epoch=N base=M generation=G path=FILE");
		return;
	}
	int outcome = presync ? dump_presync(&dumper, &request, &result) : dump_epoch(&dumper, &request, &result);
	if (outcome == 0)
		reply_dump(&request, &result);
	else
		reply_failure();
	if (presync)
		return;
	dump_tidy(&dumper);
	park_next();
}

static void serve_status(void)
{
	struct line_writer line;
	line_begin(&line, "ok");
	line_u64(&line, "epoch", dumper.last_epoch);
	line_u64(&line, "generation", dumper.last_generation);
	line_i64(&line, "app_pid", dumper.app_pid);
	line_i64(&line, "app_host_pid", dumper.app_host_pid);
	line_i64(&line, "criu_pid", dumper.engine.pid);
	line_end(&line);
	reply(&line);
}

static void reply_hello(void)
{
	struct line_writer line;
	line_begin(&line, "ok");
	line_raw(&line, "program", "ftdump");
	line_u64(&line, "protocol", LINE_PROTOCOL);
	line_i64(&line, "pid", getpid());
	line_end(&line);
	reply(&line);
}

static void reply_ok(void)
{
	struct line_writer line;
	line_begin(&line, "ok");
	line_end(&line);
	reply(&line);
}

/* False: quit. */
static bool serve(char *text, size_t length)
{
	struct line line;
	uint64_t epoch;
	if (line_parse(text, length, &line) != 0) {
		reply_usage("not a line of the protocol");
	} else if (strcmp(line.verb, "hello") == 0) {
		reply_hello();
	} else if (strcmp(line.verb, "dump") == 0 || strcmp(line.verb, "presync") == 0) {
		serve_dump(&line);
	} else if (strcmp(line.verb, "acked") == 0 && line_get_u64(&line, "epoch", &epoch) == 0) {
		dump_acked(&dumper, epoch);
		reply_ok();
	} else if (strcmp(line.verb, "reset") == 0) {
		dump_reset(&dumper);
		reply_ok();
	} else if (strcmp(line.verb, "status") == 0) {
		serve_status();
	} else if (strcmp(line.verb, "quit") == 0) {
		reply_ok();
		return false;
	} else {
		reply_usage("hello presync dump acked reset status quit");
	}
	return true;
}

/* Until there is a line, or stdin is closed. What the kernel tells of files is taken meanwhile, its queue being bounded. */
static void await_input(void)
{
	for (;;) {
		struct pollfd ready[2] = {
			{ .fd = STDIN_FILENO, .events = POLLIN },
			{ .fd = dumper.engine.pidfd, .events = POLLIN },
		};
		int count = poll(ready, 2, dumper.watching ? LISTEN_MS : -1);
		if (dumper.watching)
			files_listen(dumper.files);
		if (count < 0 && errno != EINTR)
			return; /* read() tells */
		if (count > 0 && ready[1].revents != 0)
			dump_idle(&dumper);
		if (count > 0 && ready[0].revents != 0)
			return;
	}
}

static void serve_lines(void)
{
	static struct line_reader reader;
	for (;;) {
		await_input();
		ssize_t got = read(STDIN_FILENO, reader.text + reader.length, line_reader_space(&reader));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return;
		reader.length += (size_t)got;
		char *text;
		size_t length;
		int have;
		while ((have = line_reader_next(&reader, &text, &length)) > 0)
			if (!serve(text, length))
				return;
		if (have < 0)
			return;
		(void)line_reader_space(&reader); /* moves the rest to the front */
	}
}

/* ---- start ---- */

static int usage(void)
{
	fprintf(stderr, "usage: ftdump --pair ID --init-pid PID --toolkit DIR --hook LIB --work DIR --gate SOCKET|none --roots FILE\n"
			"              [--kdat DIR] [--exclude PATH]… [--log-keep 4] [--freeze-ms-max 2000] [--blob-bytes-max 8589934592]\n"
			"              [--files-bytes-max 4294967296] [--tracking auto|wp-async|soft-dirty|full] [--files auto|walk]\n"
			"              [--compression none|lz4|zstd] [--without splices|pages|smaps|mark|late]… [--tell-frozen]\n");
	return 2;
}

static int parse_options(int argc, char **argv, struct options *out)
{
	enum {
		PAIR = 1, INIT, TOOLKIT, HOOK, WORK, GATE, ROOTS, EXCLUDE, KEEP, FREEZE, BLOB, KDAT, FILES, WITHOUT, TRACKING,
		COMPRESSION, WATCH, TELL_FROZEN
	};
	static const struct option known[] = {
		{ "pair", 1, NULL, PAIR },	   { "init-pid", 1, NULL, INIT }, { "toolkit", 1, NULL, TOOLKIT },
		{ "hook", 1, NULL, HOOK },	   { "work", 1, NULL, WORK },	  { "gate", 1, NULL, GATE },
		{ "roots", 1, NULL, ROOTS },	   { "exclude", 1, NULL, EXCLUDE }, { "log-keep", 1, NULL, KEEP },
		{ "freeze-ms-max", 1, NULL, FREEZE }, { "blob-bytes-max", 1, NULL, BLOB }, { "kdat", 1, NULL, KDAT },
		{ "files-bytes-max", 1, NULL, FILES }, { "without", 1, NULL, WITHOUT }, { "tracking", 1, NULL, TRACKING },
		{ "compression", 1, NULL, COMPRESSION },
		{ "files", 1, NULL, WATCH },
		{ "tell-frozen", 0, NULL, TELL_FROZEN },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t number = 0;
	int bad = 0;
	*out = (struct options){ .exclude = { "/.ftctl" }, .excludes = 1, .kdat = "kdat", .log_keep = 4, .freeze_ms_max = 2000, .shortcuts = HOOK_SHORTCUTS,
				 .blob_bytes_max = (uint64_t)8 << 30, .watch = true };
	for (int kind; (kind = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		switch (kind) {
		case PAIR: out->pair = optarg; break;
		case INIT: bad |= line_parse_u64(optarg, &number) != 0; out->init_pid = (pid_t)number; break;
		case TOOLKIT: out->toolkit = optarg; break;
		case HOOK: out->hook = optarg; break;
		case WORK: out->work = optarg; break;
		case KDAT: out->kdat = optarg; break;
		case GATE: out->gate = optarg; break;
		case ROOTS: out->roots = optarg; break;
		case EXCLUDE:
			bad |= out->excludes == EXCLUDES_MAX;
			if (!bad)
				out->exclude[out->excludes++] = optarg;
			break;
		case KEEP: bad |= line_parse_u64(optarg, &out->log_keep) != 0; break;
		case FREEZE: bad |= line_parse_u64(optarg, &out->freeze_ms_max) != 0; break;
		case BLOB: bad |= line_parse_u64(optarg, &out->blob_bytes_max) != 0; break;
		case FILES: bad |= line_parse_u64(optarg, &out->files_bytes_max) != 0; break;
		case WITHOUT:
			bad |= shortcut_called(optarg) == 0;
			out->shortcuts &= ~shortcut_called(optarg);
			break;
		case TRACKING:
			out->no_bits = strcmp(optarg, "wp-async") == 0;
			out->track = out->no_bits || strcmp(optarg, "auto") == 0 ? TRACK_WP_ASYNC
				     : strcmp(optarg, "soft-dirty") == 0 ? TRACK_SOFT_DIRTY
									 : TRACK_FULL;
			bad |= out->track == TRACK_FULL && strcmp(optarg, "full") != 0;
			break;
		case COMPRESSION:
			out->packing = pages_packing_called(optarg);
			bad |= out->packing < 0;
			break;
		case WATCH:
			out->watch = strcmp(optarg, "auto") == 0;
			bad |= !out->watch && strcmp(optarg, "walk") != 0;
			break;
		case TELL_FROZEN: out->tell_frozen = true; break;
		default: return -1;
		}
	}
	bool missing = out->pair == NULL || out->init_pid <= 1 || out->toolkit == NULL || out->hook == NULL ||
		       out->work == NULL || out->gate == NULL || out->roots == NULL;
	return bad || missing || optind != argc || out->freeze_ms_max == 0 ? -1 : 0;
}

static int folder(int parent, const char *name)
{
	if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
		return -1;
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Images of a run that was killed. */
static void wipe_images(void)
{
	DIR *listing = disk_list(dumper.work, ".");
	if (listing == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
		if (strncmp(entry->d_name, "images-", 7) == 0)
			(void)engine_remove_images(dumper.work, entry->d_name); /* else they only take room */
	closedir(listing);
}

/* Whatever cannot be watched is walked in every epoch; said here once, and with every epoch's answer. */
static void watch_files(const struct options *options)
{
	const char *name, *why;
	if (getenv("FTDUMP_VERIFY_FILES") != NULL)
		files_audit(dumper.files);
	if (!options->watch)
		return;
	dumper.watching = files_watch(dumper.files, options->work) == 0;
	if (!dumper.watching)
		fprintf(stderr, "ftdump: files are not watched, but walked: %s\n", strerror(errno));
	for (size_t i = 0; (why = files_unwatched(dumper.files, i, &name)), name != NULL; i++)
		if (why != NULL)
			fprintf(stderr, "ftdump: files below %s are walked in every epoch: %s\n", name, why);
}

static int open_files(const struct options *options)
{
	struct files_root *roots;
	size_t count;
	int line_number = 0;
	char where[256] = "";
	if (files_roots_read(options->roots, &roots, &count, &line_number) != 0) {
		fprintf(stderr, "ftdump: %s:%d: %s\n", options->roots, line_number, strerror(errno));
		return -1;
	}
	const struct files_limits limits = { .bytes_max = options->files_bytes_max };
	dumper.files = files_open(roots, count, options->exclude, options->excludes, &limits, where);
	int error = errno;
	free(roots);
	if (dumper.files == NULL)
		fprintf(stderr, "ftdump: %s: %s\n", where, strerror(error));
	else
		watch_files(options);
	return dumper.files == NULL ? -1 : 0;
}

static int open_all(const struct options *options)
{
	const char *what = options->work;
	dumper.work = folder(AT_FDCWD, options->work);
	if (dumper.work < 0)
		goto failed;
	dumper.logs = folder(dumper.work, "logs");
	dumper.kdat = folder(dumper.work, options->kdat);
	if (dumper.logs < 0 || dumper.kdat < 0)
		goto failed;
	/* Left by a CRIU that died while writing it, it would keep every later one from caching. */
	if (unlinkat(dumper.kdat, "criu.kdat.tmp", 0) != 0 && errno != ENOENT)
		goto failed;
	wipe_images();
	what = options->toolkit;
	if (enter_toolkit_open(&dumper.toolkit, options->toolkit, options->hook) != 0)
		goto failed;
	what = "--init-pid";
	if (enter_container_open(&dumper.container, options->init_pid) != 0)
		goto failed;
	return open_files(options);
failed:
	fprintf(stderr, "ftdump: %s: %s\n", what, strerror(errno));
	return -1;
}

int main(int argc, char **argv)
{
	static struct options options;
	signal(SIGPIPE, SIG_IGN);
	if (parse_options(argc, argv, &options) != 0)
		return usage();
	dumper.pair = options.pair;
	dumper.work_path = options.work;
	dumper.log_keep = options.log_keep;
	dumper.shortcuts = options.shortcuts;
	dumper.tell_frozen = options.tell_frozen;
	dumper.freeze_limit_us = options.freeze_ms_max * 1000;
	dumper.blob_bytes_max = options.blob_bytes_max;
	const char *slow;
	char why[TRACK_WHY_BYTES];
	enum track_mode mode = track_choose(options.track, options.no_bits, why, sizeof why);
	if (mode != options.track)
		fprintf(stderr, "ftdump: memory is %s: %s\n", mode == TRACK_FULL ? "dumped whole" : "tracked by its soft-dirty bits", why);
	track_open(&dumper.tracker, mode, getenv("FTDUMP_VERIFY_PAGES") != NULL);
	dumper.tracker.any_frame = getenv("FTDUMP_ANY_FRAME") != NULL;
	dumper.tracker.refused = tell_refused;
	/* Pages are looked for by CRIU itself, as it reads /proc/PID/pagemap in the freeze. */
	if (mode == TRACK_SOFT_DIRTY)
		dumper.shortcuts &= ~(uint32_t)(HOOK_LATE | HOOK_QUICK);
	dumper.tracker.quick = mode == TRACK_WP_ASYNC && (options.shortcuts & HOOK_QUICK) != 0 && track_probe_quick();
	dumper.tracker.marker = dumper.tracker.quick ? track_probe_marker() : 0;
	if ((options.shortcuts & HOOK_FLAGS) != 0 && (dumper.areas_program = vma_program(&slow)) < 0)
		fprintf(stderr, "ftdump: memory areas are read of smaps: %s: %s\n", slow, strerror(errno));
	if (mode != options.track || mode == TRACK_FULL)
		snprintf(dumper.tracker.why, sizeof dumper.tracker.why, "%s", why);
	if (options.packing != PAGES_PLAIN && (dumper.packer = pages_packer_new((enum pages_packing)options.packing)) == NULL) {
		fprintf(stderr, "ftdump: no memory for compression\n");
		return 1;
	}
	if (hash_key_make(&dumper.page_key) != 0) {
		fprintf(stderr, "ftdump: no randomness: %s\n", strerror(errno));
		return 1;
	}
	gate_init(&dumper.gate, strcmp(options.gate, "none") == 0 ? NULL : options.gate);
	engine_init(&dumper.engine);
	if (open_all(&options) != 0)
		return 1;
	park_next();
	serve_lines();
	dump_stop(&dumper);
	return 0;
}
