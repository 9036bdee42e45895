/*
 * ftfeed: gives a restored application its memory, at once what it asks for and the rest in order of address, from the store's flat
 * sets. Started by ftrestore; lives until nothing is missing, then says so in its state file and is gone. Whatever else happens to it,
 * the application is killed rather than run on with wrong memory.
 *
 *   event filling pages=N | ok pages=N copied=N zero=N present=N faults=N forks=N fill_us=N | fail code=WORD errno=N detail=TEXT
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dump/clock.h"
#include "feed/feed.h"
#include "feed/guard.h"
#include "feed/notice.h"
#include "line/line.h"

#define SOCKET_NAME "lazy-pages.socket" /* CRIU's */

enum { EXIT_ABORTED = 3, HANG_LOOKS = 2000 /* of guard_watch(): ten seconds */ };

struct options {
	pid_t init_pid;
	const char *images, *work, *state;
	uint64_t wait_ms;
	bool wait;
};

static struct feed feed = { .listener = -1, .client = -1, .starter = STDIN_FILENO, .guard = -1 };
static int work = -1, images = -1, pid_namespace = -1;
static const char *state_name;
static uint64_t began_us;

static void say(const struct line_writer *line)
{
	(void)!write(STDOUT_FILENO, line->text, line->length);
}

/* Whole or not at all. */
static void keep_state(const struct line_writer *line)
{
	char fresh[NAME_MAX];
	snprintf(fresh, sizeof fresh, "%s.new", state_name);
	int fd = openat(work, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool written = fd >= 0 && write(fd, line->text, line->length) == (ssize_t)line->length;
	if (fd >= 0)
		close(fd);
	if (!written || renameat(work, fresh, work, state_name) != 0)
		(void)unlinkat(work, state_name, 0); /* none is better than an old one */
}

static void keep_failure(const char *code, int error, const char *detail)
{
	struct line_writer line;
	line_fail(&line, code, error, detail);
	keep_state(&line);
	fprintf(stderr, "ftfeed: %s: %s: the application is ended\n", code, detail);
}

static void keep_done(void)
{
	struct line_writer line;
	line_begin(&line, "ok");
	line_u64(&line, "pages", feed.list->pages);
	line_u64(&line, "copied", feed.counts.copied);
	line_u64(&line, "zero", feed.counts.zero);
	line_u64(&line, "present", feed.counts.present);
	line_u64(&line, "faults", feed.counts.faults);
	line_u64(&line, "forks", feed.counts.forks);
	line_u64(&line, "fill_us", clock_us() - began_us);
	line_end(&line);
	keep_state(&line);
}

/* The store may be gone by now: its memory is given back. The list stays, so that the images are not taken for whole ones. */
static void remove_pages(void)
{
	for (size_t i = 0; i < feed.list->sets; i++) {
		char name[LAZY_NAME_BYTES];
		lazy_pages_name(feed.list->set[i].id, name);
		if (unlinkat(images, name, 0) != 0 && errno != ENOENT)
			fprintf(stderr, "ftfeed: %s: %s\n", name, strerror(errno));
	}
}

/* For tests: a fill of some seconds in place of some milliseconds. */
static int pace_ms(void)
{
	const char *text = getenv("FTFEED_PACE_MS");
	return text == NULL ? 0 : atoi(text);
}

/* ---- start ---- */

static int open_sources(struct epoch_error *e)
{
	feed.list = lazy_read(images, e);
	if (feed.list == NULL)
		return -1;
	feed.source = calloc(feed.list->sets + 1, sizeof *feed.source);
	if (feed.source == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory");
	for (size_t i = 0; i < feed.list->sets; i++) {
		char name[LAZY_NAME_BYTES];
		lazy_pages_name(feed.list->set[i].id, name);
		int fd = openat(images, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return epoch_fail(e, "io", errno, "%s cannot be opened", name);
		feed.source[i] = (struct feed_source){ .set = &feed.list->set[i], .fd = fd };
	}
	return 0;
}

static int listen_for_criu(struct epoch_error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET_NAME };
	feed.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fchdir(work) != 0 || (unlink(SOCKET_NAME) != 0 && errno != ENOENT) || feed.listener < 0 ||
	    bind(feed.listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(feed.listener, 1) != 0 || chdir("/") != 0)
		return epoch_fail(e, "io", errno, "%s: %s", SOCKET_NAME, strerror(errno));
	return 0;
}

static int open_all(const struct options *options, struct epoch_error *e)
{
	char path[40];
	images = open(options->images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	work = open(options->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)options->init_pid);
	pid_namespace = open(path, O_RDONLY | O_CLOEXEC);
	if (images < 0 || work < 0 || pid_namespace < 0)
		return epoch_fail(e, "io", errno, "%s, %s or the container cannot be opened", options->images, options->work);
	int result = open_sources(e);
	if (result == 0 && notice_open(options->init_pid) < 0)
		result = epoch_fail(e, "io", errno, "an earlier feeder is still there: %s", strerror(errno));
	return result != 0 ? result : listen_for_criu(e);
}

/* ---- the two processes ---- */

static _Noreturn void run_feeder(void)
{
	struct epoch_error e = { .code = "" };
	enum feed_outcome outcome = feed_run(&feed, &e);
	if (outcome == FEED_DONE) {
		keep_done();
		remove_pages();
		_exit(0);
	}
	if (outcome == FEED_ABORTED)
		_exit(EXIT_ABORTED);
	keep_failure(e.code, e.error, e.detail);
	/* Without its guard nobody else would do it. */
	if (strcmp(e.code, "unguarded") == 0)
		(void)guard_end_application(pid_namespace);
	_exit(1);
}

/* A slice of 128 KiB or a message takes less than a second, from whatever disk. */
static unsigned looks_max(void)
{
	const char *text = getenv("FTFEED_HANG_LOOKS"); /* for tests */
	return text == NULL ? HANG_LOOKS : (unsigned)atoi(text);
}

static int run_guard(pid_t feeder)
{
	bool hung;
	int status = guard_watch(feeder, feed.turns, looks_max(), &hung);
	(void)unlinkat(work, SOCKET_NAME, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (hung)
		keep_failure("feeder-hung", ETIMEDOUT, "it has not moved for ten seconds");
	else if (WIFSIGNALED(status))
		keep_failure("feeder-died", 0, strsignal(WTERMSIG(status)));
	/* For ever, rather than let go: the container's end ends it. */
	while (guard_end_application(pid_namespace) != 0)
		usleep(1000);
	return 1;
}

static int start(const struct options *options)
{
	struct epoch_error e = { .code = "" };
	struct line_writer line;
	state_name = options->state;
	guard_harden();
	(void)setsid(); /* fails only for the leader of a group */
	began_us = clock_us();
	feed.pace_ms = pace_ms();
	if (open_all(options, &e) != 0) {
		line_fail(&line, e.code, e.error, e.detail);
		say(&line);
		return 1;
	}
	line_begin(&line, "event filling");
	line_u64(&line, "pages", feed.list->pages);
	line_end(&line);
	keep_state(&line);
	void *turns = mmap(NULL, sizeof *feed.turns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	feed.turns = turns;
	pid_t feeder = turns == MAP_FAILED ? -1 : guard_split(&feed.guard);
	if (feeder == 0) {
		line_begin(&line, "ok");
		line_u64(&line, "pages", feed.list->pages);
		line_i64(&line, "pid", getpid());
		line_end(&line);
		say(&line);
		close(STDOUT_FILENO);
		run_feeder();
	}
	if (feeder > 0)
		return run_guard(feeder);
	line_fail(&line, "io", errno, "the feeder cannot be started");
	say(&line);
	return 1;
}

static int usage(void)
{
	fprintf(stderr, "usage: ftfeed --init-pid PID --images DIR --work DIR [--state NAME]     stdin: closed when the restore is over\n"
			"       ftfeed --init-pid PID --wait-ms MS                               until nothing is missing\n");
	return 2;
}

int main(int argc, char **argv)
{
	enum { INIT = 1, IMAGES, WORK, STATE, WAIT };
	static const struct option known[] = {
		{ "init-pid", 1, NULL, INIT }, { "images", 1, NULL, IMAGES }, { "work", 1, NULL, WORK },
		{ "state", 1, NULL, STATE },   { "wait-ms", 1, NULL, WAIT },  { NULL, 0, NULL, 0 },
	};
	struct options options = { .state = "feed" };
	uint64_t number = 0;
	int bad = 0;
	for (int kind; (kind = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		switch (kind) {
		case INIT: bad |= line_parse_u64(optarg, &number) != 0; options.init_pid = (pid_t)number; break;
		case IMAGES: options.images = optarg; break;
		case WORK: options.work = optarg; break;
		case STATE: options.state = optarg; break;
		case WAIT: bad |= line_parse_u64(optarg, &options.wait_ms) != 0 || options.wait_ms > 3600000; options.wait = true; break;
		default: return usage();
		}
	}
	if (bad || optind != argc || options.init_pid <= 1)
		return usage();
	if (options.wait) {
		if (notice_await(options.init_pid, (int)options.wait_ms) == 0)
			return 0;
		fprintf(stderr, "ftfeed: memory is still missing: %s\n", strerror(errno));
		return 1;
	}
	return options.images == NULL || options.work == NULL ? usage() : start(&options);
}
