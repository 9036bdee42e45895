/*
 * ftlive: the privileged side of going live, one shot. Enters a container's network namespace, rebuilds the connections
 * that a replayed application claims, and hands over those that wait to be accepted.
 *
 *   ftlive --pid PID --name NAME --table FILE|--frames FILE --epoch N [--processes N] [--timeout-ms N] [--accept-timeout-ms N] [--wait]
 *
 * --wait: it is started ahead, and looks at nothing before its input says `go`; if that ends instead, it ends too.
 * PID: any process of the container. FILE: the tracker's table (live/table.h), or a standby's frames (ship/frames.h) and the
 * epoch that was restored; `fail code=uncovered` if they do not lead from it. Says `ready` when processes may come, and
 * at the end `ok claims=… rebuilt=…` or `fail code=… errno=… detail=…`.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "line/line.h"
#include "live/broker.h"
#include "live/table.h"

enum { TIMEOUT_MS = 5000, ACCEPT_TIMEOUT_MS = 10000, NUMBER_MAX = 3600000 };
#define TABLE_BYTES_MAX ((size_t)1 << 32)

struct options {
	const char *name, *table, *frames;
	uint64_t epoch, pid, processes, timeout_ms, accept_timeout_ms;
	bool wait;
};

static int fail(const char *code, const char *detail)
{
	struct line_writer writer;
	line_fail(&writer, code, errno, detail);
	return fwrite(writer.text, 1, writer.length, stdout) == writer.length && fflush(stdout) == 0 ? 1 : 2;
}

static int parse(int count, char **arguments, struct options *out)
{
	static const struct option known[] = {
		{ "pid", required_argument, NULL, 'p' }, { "name", required_argument, NULL, 'n' },
		{ "table", required_argument, NULL, 't' },
		{ "frames", required_argument, NULL, 'f' }, { "epoch", required_argument, NULL, 'e' }, { "processes", required_argument, NULL, 'c' },
		{ "timeout-ms", required_argument, NULL, 'm' }, { "accept-timeout-ms", required_argument, NULL, 'a' },
		{ "wait", no_argument, NULL, 'w' }, { 0 },
	};
	*out = (struct options){ .processes = 1, .timeout_ms = TIMEOUT_MS, .accept_timeout_ms = ACCEPT_TIMEOUT_MS };
	for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;) {
		uint64_t *number = option == 'p' ? &out->pid : option == 'e' ? &out->epoch : option == 'c' ? &out->processes :
				   option == 'm' ? &out->timeout_ms : option == 'a' ? &out->accept_timeout_ms : NULL;
		if (number != NULL) {
			if (line_parse_u64(optarg, number) != 0 || (option != 'e' && *number > NUMBER_MAX))
				return -1;
		} else if (option == 'n') {
			out->name = optarg;
		} else if (option == 'f') {
			out->frames = optarg;
		} else if (option == 't') {
			out->table = optarg;
		} else if (option == 'w') {
			out->wait = true;
		} else {
			return -1;
		}
	}
	return optind == count && out->name != NULL && (out->table != NULL) != (out->frames != NULL) &&
			       out->pid > 0 ? 0 : -1;
}

static int enter_network(uint64_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%llu/ns/net", (unsigned long long)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int result = setns(fd, CLONE_NEWNET), error = errno;
	close(fd);
	errno = error;
	return result;
}

static uint8_t *read_whole(const char *path, size_t *length)
{
	struct stat status;
	uint8_t *bytes = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	errno = EFBIG;
	if (fstat(fd, &status) == 0 && status.st_size > 0 && (uint64_t)status.st_size <= TABLE_BYTES_MAX)
		bytes = malloc((size_t)status.st_size);
	size_t have = 0;
	while (bytes != NULL && have < (size_t)status.st_size) {
		ssize_t got = read(fd, bytes + have, (size_t)status.st_size - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			free(bytes);
			bytes = NULL;
		} else {
			have += (size_t)got;
		}
	}
	close(fd);
	*length = have;
	return bytes;
}

static int load(const char *path, struct tracker *tracker, uint64_t *clock_ns)
{
	size_t length;
	uint32_t connections;
	uint64_t stream_bytes;
	uint8_t *bytes = read_whole(path, &length);
	if (bytes == NULL)
		return -1;
	int result = -1;
	errno = EBADMSG;
	if (table_measure(bytes, length, &connections, &stream_bytes) == 0 &&
	    tracker_open(tracker, connections + 1, (uint32_t)(stream_bytes / CHUNK_BYTES) + 2 * connections + 1) == 0) {
		result = table_decode(tracker, bytes, length, clock_ns);
		if (result != 0)
			tracker_close(tracker);
		errno = EBADMSG;
	}
	free(bytes);
	return result;
}

static int open_frames(const struct options *options, struct broker *broker, struct feed *feed)
{
	enum { SOCKETS_MAX = 16384 };
	int failed = feed_open(feed, options->frames, options->epoch);
	if (failed == 0 && feed_make_tracker(feed, broker->tracker, SOCKETS_MAX) != 0)
		failed = -ENOMEM;
	errno = -failed;
	if (failed != 0)
		return -1;
	broker->feed = feed;
	return 0;
}

static int report(const struct broker_counts *count)
{
	struct line_writer writer;
	line_begin(&writer, "ok");
	line_u64(&writer, "claims", count->claims);
	line_u64(&writer, "rebuilt", count->rebuilt);
	line_u64(&writer, "over", count->over);
	line_u64(&writer, "failed", count->failed);
	line_u64(&writer, "waiting", count->waiting);
	line_u64(&writer, "given", count->given);
	line_u64(&writer, "lost", count->lost);
	line_u64(&writer, "unread-bytes", count->unread_bytes);
	line_u64(&writer, "output-bytes", count->output_bytes);
	line_u64(&writer, "rebuild-us", count->rebuild_us);
	line_end(&writer);
	return fwrite(writer.text, 1, writer.length, stdout) == writer.length && fflush(stdout) == 0 ? 0 : 2;
}

static bool hears_go(void)
{
	char word[8];
	return fgets(word, sizeof word, stdin) != NULL && strcmp(word, "go\n") == 0;
}

int main(int count, char **arguments)
{
	struct options options;
	struct tracker tracker;
	struct feed feed;
	struct broker broker = { .tracker = &tracker };
	if (parse(count, arguments, &options) != 0) {
		fputs("usage: ftlive --pid PID --name NAME --table FILE [--processes N] [--timeout-ms N] [--accept-timeout-ms N] [--wait]\n",
		      stderr);
		return 64;
	}
	if (options.wait && !hears_go())
		return 0;
	broker.processes = (unsigned)options.processes;
	broker.timeout_ms = (int)options.timeout_ms;
	broker.accept_timeout_ms = (int)options.accept_timeout_ms;
	if (options.frames != NULL) {
		if (open_frames(&options, &broker, &feed) != 0)
			return fail(errno == ENOENT ? "uncovered" : "corrupt", options.frames);
	} else if (load(options.table, &tracker, &broker.clock_ns) != 0) {
		return fail("corrupt", options.table);
	}
	/* Whoever started us carries the takeover; the next one starts another, under the same name. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return fail("io", "prctl");
	if (enter_network(options.pid) != 0)
		return fail("gone", "the container's network namespace");
	if (broker_open(&broker, options.name) != 0)
		return fail("io", "sockets of the container's network namespace");
	puts("ready");
	fflush(stdout);
	int result = broker_run(&broker) == 0 ? report(&broker.count) : fail("handover", "a process did not come, or broke off");
	broker_close(&broker);
	tracker_close(&tracker);
	return result;
}
