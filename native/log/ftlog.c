/*
 * ftlog: looks at an event log, and makes one.
 *
 *   ftlog dump FILE [LANE]            every event of the lanes, in the order of their time stamps
 *   ftlog stats FILE                  what fills it
 *   ftlog report FILE                 what the last replay said
 *   ftlog create FILE LANES SEGMENTS [anew]  an empty log, in mode record; `anew`: for an application that is restored without its log
 *   ftlog trim FILE                   forgets what no thread can look at again: while nobody ships the log
 *   ftlog mode FILE record|replay|live [record|live [paced]]   the mode word, the one after a replay, and
 *                                     whether recorded intervals are enforced
 *   ftlog trim FILE all               forgets all of it: a checkpoint has been taken while the application stood still
 *
 *   ftlog build LIBRARY              which build of libftrec.so that is
 *   ftlog check FILE [LIBRARY]        whole? and recorded by this build of libftrec.so?
 *   ftlog arm FILE LIBRARY            checks it ahead; at `go` or `go paced` on its input checks it again if there has come more,
 *                                     and sets the mode to replay, then record. Says `armed`
 *
 * Ends with 0, or 2 for a log that cannot be read, 3 when a lane is torn or corrupt (what was readable is printed), 4 for a
 * log of another version, 5 for one that is none or has a damaged header, 6 for one of another build of the recorder.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log/build.h"
#include "log/reader.h"
#include "log/stored.h"

enum { EXIT_OTHER_VERSION = 4, EXIT_DAMAGED = 5, EXIT_OTHER_BUILD = 6 };

static const char *mode_names[] = {"none", "record", "replay", "live", "stopped", "anew"};
static const char *loss_names[] = {"nothing", "lanes", "objects", "descriptor", "record", "fork", "call"};

static const char *name_of(const char **names, uint32_t count, uint32_t value)
{
	return value < count ? names[value] : "?";
}

struct lane_walk {
	struct log_cursor cursor;
	struct log_event next;
	enum log_walk state;
	uint64_t ticks; /* of the last stamp, in full */
};

/* A stamp is the low part of the tick counter: the full one is the next that has this low part. */
static void read_stamp(struct lane_walk *walk, uint64_t start_ticks)
{
	if (walk->next.shape == LOG_SHAPE_CHECK) {
		walk->ticks = walk->next.check.ticks;
	} else if (walk->next.shape == LOG_SHAPE_CALL || walk->next.shape == LOG_SHAPE_TURN) {
		uint64_t base = walk->ticks != 0 ? walk->ticks : start_ticks;
		uint32_t ahead = walk->next.call.stamp - (uint32_t)(base >> LOG_STAMP_SHIFT);
		if (ahead < 0x80000000u)
			walk->ticks = base + ((uint64_t)ahead << LOG_STAMP_SHIFT);
	}
}

static void step(struct lane_walk *walk, uint64_t start_ticks)
{
	walk->state = log_cursor_next(&walk->cursor, &walk->next);
	if (walk->state == LOG_WALK_EVENT)
		read_stamp(walk, start_ticks);
}

static double seconds_since_start(const struct log_file *log, uint64_t ticks)
{
	uint64_t start = atomic_load(&log->header->start_ticks), rate = atomic_load(&log->header->ticks_per_s);
	return rate == 0 || ticks < start ? 0 : (double)(ticks - start) / (double)rate;
}

static void print_text(const uint8_t *bytes, uint32_t count)
{
	uint32_t shown = count < 48 ? count : 48;
	fputs(" \"", stdout);
	for (uint32_t i = 0; i < shown; i++)
		if (bytes[i] >= 32 && bytes[i] < 127 && bytes[i] != '"' && bytes[i] != '\\')
			putchar(bytes[i]);
		else
			printf("\\x%02x", bytes[i]);
	printf("\"%s", shown < count ? "…" : "");
}

static void print_event(const struct log_file *log, const struct lane_walk *walk)
{
	const struct log_event *e = &walk->next;
	printf("%12.6f %3u %10" PRIu64 " %-14s", seconds_since_start(log, walk->ticks), walk->cursor.lane, e->position,
	       log_kind_of(e->record.kind).name);
	switch (e->shape) {
	case LOG_SHAPE_BARE: printf(" %u", e->record.object); break;
	case LOG_SHAPE_CHECK: printf(" crc=%08x records=%" PRIu64, e->record.object, e->check.ordinal); break;
	case LOG_SHAPE_VALUE: printf(" %u value=%" PRIu64, e->record.object, e->value); break;
	case LOG_SHAPE_SYNC:
		printf(" object=%u version=%u result=%d", e->record.object, e->sync.version, e->sync.result);
		break;
	case LOG_SHAPE_OUTPUT: printf(" %u bytes=%u crc=%08x", e->record.object, e->output.bytes, e->output.crc); break;
	case LOG_SHAPE_TURN:
		printf(" %u = %d object=%u version=%u", e->record.object, e->call.result, (uint32_t)e->sync.result,
		       e->sync.version);
		break;
	case LOG_SHAPE_CALL: printf(" %u = %d", e->record.object, e->call.result); break;
	}
	if (e->record.elided != 0)
		printf(" after=%u", e->record.elided);
	if (e->payload_bytes != 0)
		print_text(e->payload, e->payload_bytes);
	putchar('\n');
}

static int finish_lanes(struct lane_walk **walks, const struct log_file *log)
{
	int bad = 0;
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		if (walks[lane] == NULL)
			continue;
		if (walks[lane]->cursor.complaint != NULL) {
			printf("lane %u: %s at %" PRIu64 ": %s\n", lane, walks[lane]->state == LOG_WALK_TORN ? "torn" : "corrupt",
			       walks[lane]->cursor.position, walks[lane]->cursor.complaint);
			bad = 3;
		}
		free(walks[lane]);
	}
	return bad;
}

static int open_lanes(struct lane_walk **walks, const struct log_file *log, long only)
{
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		if (atomic_load(&log->lanes[lane].head) == 0 || (only >= 0 && lane != (uint32_t)only))
			continue;
		walks[lane] = calloc(1, sizeof **walks);
		if (walks[lane] == NULL)
			return -1;
		log_cursor_open(&walks[lane]->cursor, log, lane, atomic_load(&log->lanes[lane].tail));
		step(walks[lane], atomic_load(&log->header->start_ticks));
	}
	return 0;
}

static int dump(const struct log_file *log, long only)
{
	static struct lane_walk *walks[LOG_LANES_MAX];
	if (open_lanes(walks, log, only) != 0)
		return 2;
	for (;;) {
		struct lane_walk *first = NULL;
		for (uint32_t lane = 0; lane < log->lane_count; lane++)
			if (walks[lane] != NULL && walks[lane]->state == LOG_WALK_EVENT &&
			    (first == NULL || walks[lane]->ticks < first->ticks))
				first = walks[lane];
		if (first == NULL)
			break;
		print_event(log, first);
		step(first, atomic_load(&log->header->start_ticks));
	}
	return finish_lanes(walks, log);
}

struct tally {
	uint64_t records, bytes, payload_bytes, elided;
};

static void print_tallies(const struct tally *tallies, const struct tally *all)
{
	printf("%-14s %12s %14s %6s %14s\n", "kind", "records", "bytes", "share", "payload");
	for (unsigned done = 0; done < LOG_KIND_MAX; done++) {
		/* Largest first, without sorting: the kinds are few. */
		static uint8_t printed[LOG_KIND_MAX];
		int most = -1;
		for (int kind = 0; kind < LOG_KIND_MAX; kind++)
			if (!printed[kind] && tallies[kind].records != 0 && (most < 0 || tallies[kind].bytes > tallies[most].bytes))
				most = kind;
		if (most < 0)
			break;
		printed[most] = 1;
		printf("%-14s %12" PRIu64 " %14" PRIu64 " %5.1f%% %14" PRIu64 "\n", log_kind_of((uint8_t)most).name,
		       tallies[most].records, tallies[most].bytes, 100.0 * (double)tallies[most].bytes / (double)all->bytes,
		       tallies[most].payload_bytes);
	}
}

static void add(struct tally *tally, const struct log_event *event)
{
	tally->records++;
	tally->bytes += event->record.words * 8u;
	tally->payload_bytes += event->payload_bytes;
	tally->elided += event->record.elided;
}

static int stats(const struct log_file *log)
{
	static struct lane_walk *walks[LOG_LANES_MAX];
	static struct tally tallies[LOG_KIND_MAX];
	struct tally all = {0};
	if (open_lanes(walks, log, -1) != 0)
		return 2;
	printf("lane thread      state           tail           head     records     kept bytes\n");
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		struct lane_walk *walk = walks[lane];
		struct tally mine = {0};
		if (walk == NULL)
			continue;
		for (; walk->state == LOG_WALK_EVENT; step(walk, 0)) {
			add(&tallies[walk->next.record.kind], &walk->next);
			add(&mine, &walk->next);
			add(&all, &walk->next);
		}
		const struct log_lane *l = &log->lanes[lane];
		printf("%4u %6u %10s %14" PRIu64 " %14" PRIu64 " %11" PRIu64 " %14" PRIu64 "\n", lane, atomic_load(&l->kernel_tid),
		       atomic_load(&l->state) == LOG_LANE_ACTIVE ? "active" : "ended", atomic_load(&l->tail),
		       atomic_load(&l->head), mine.records, mine.bytes);
	}
	if (all.records != 0)
		print_tallies(tallies, &all);
	const struct log_header *h = log->header;
	printf("all %" PRIu64 " records, %" PRIu64 " bytes, %" PRIu64 " acquisitions elided; free %" PRIu64 " MiB; mode %s; "
	       "generation %" PRIu64 "; full %" PRIu64 " times, %.3f s; solo sections failed %u; lost: %s\n", all.records, all.bytes, all.elided,
	       log_free_bytes(log) >> 20, name_of(mode_names, sizeof mode_names / sizeof *mode_names, atomic_load(&h->mode)), atomic_load(&h->generation),
	       atomic_load(&h->waits), (double)atomic_load(&h->wait_ns) / 1e9, atomic_load(&h->solo_failures), name_of(loss_names, sizeof loss_names / sizeof *loss_names, atomic_load(&h->lost)));
	return finish_lanes(walks, log);
}

/* A process that was recorded by one build can be replayed by no other: its memory holds that build's state. */
static int check_build(const struct log_file *log, const char *library)
{
	struct log_build build = {{0, 0}};
	uint64_t id[2] = {atomic_load(&log->header->recorder_build[0]), atomic_load(&log->header->recorder_build[1])};
	int failed = log_build_of_file(library, &build);
	if (failed != 0) {
		fprintf(stderr, "ftlog: %s: %s\n", library, failed == -ENOENT ? "a library without a build id" : strerror(-failed));
		return 2;
	}
	if (build.id[0] == id[0] && build.id[1] == id[1])
		return 0;
	fprintf(stderr, "ftlog: recorded by another build of the recorder (%016" PRIx64 "%016" PRIx64 ") than %s\n", be64toh(id[0]),
	        be64toh(id[1]), library);
	return EXIT_OTHER_BUILD;
}

static int check(const struct log_file *log, const char *library)
{
	static struct lane_walk *walks[LOG_LANES_MAX];
	int other = library != NULL ? check_build(log, library) : 0;
	if (other != 0)
		return other;
	if (open_lanes(walks, log, -1) != 0)
		return 2;
	for (uint32_t lane = 0; lane < log->lane_count; lane++)
		while (walks[lane] != NULL && walks[lane]->state == LOG_WALK_EVENT)
			step(walks[lane], 0);
	int bad = finish_lanes(walks, log);
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		const char *why = log_stored_check(log, lane);
		if (why == NULL)
			continue;
		printf("lane %u: corrupt: %s\n", lane, why);
		bad = 3;
	}
	return bad;
}

static int print_build(const char *library)
{
	struct log_build build = {{0, 0}};
	int failed = log_build_of_file(library, &build);
	if (failed != 0) {
		fprintf(stderr, "ftlog: %s: %s\n", library, failed == -ENOENT ? "a library without a build id" : strerror(-failed));
		return 2;
	}
	printf("%016" PRIx64 "%016" PRIx64 "\n", be64toh(build.id[0]), be64toh(build.id[1]));
	return 0;
}

static int report(const struct log_file *log)
{
	if (!atomic_load(&log->report->ready)) {
		puts("outcome=none");
		return 0;
	}
	uint32_t bytes = log->report->bytes < LOG_REPORT_BYTES ? log->report->bytes : LOG_REPORT_BYTES;
	fwrite(log->report->text, 1, bytes, stdout);
	return 0;
}

static enum log_mode mode_of(const char *name)
{
	for (unsigned mode = LOG_MODE_RECORD; mode <= LOG_MODE_STOPPED; mode++)
		if (strcmp(name, mode_names[mode]) == 0)
			return mode;
	return 0;
}

static int set_mode(const struct log_file *log, const char *mode, const char *after, bool paced)
{
	if (mode_of(mode) == 0 || (after != NULL && mode_of(after) == 0)) {
		fprintf(stderr, "ftlog: mode is record, replay, live or stopped\n");
		return 2;
	}
	if (after != NULL)
		atomic_store(&log->header->after_replay, mode_of(after));
	if (mode_of(mode) == LOG_MODE_REPLAY) {
		atomic_store(&log->report->ready, 0);
		atomic_store(&log->header->owner_pid, 0);
		if (paced)
			atomic_fetch_or(&log->header->flags, LOG_FLAG_PACE);
		else
			atomic_fetch_and(&log->header->flags, ~(uint32_t)LOG_FLAG_PACE);
	}
	atomic_store(&log->header->mode, mode_of(mode));
	return 0;
}

/* A thread has published at most one record, with padding and a check, beyond its own position. */
static int trim(const struct log_file *log, bool all)
{
	const uint64_t margin = 2ull * LOG_RECORD_BYTES_MAX + LOG_PAGE_BYTES;
	for (uint32_t lane = 0; lane < log->lane_count; lane++) {
		uint64_t head = atomic_load(&log->lanes[lane].head);
		if (all)
			log_trim(log, lane, head);
		else if (head > margin)
			log_trim(log, lane, (head - margin) / LOG_SEGMENT_BYTES * LOG_SEGMENT_BYTES);
	}
	return 0;
}

/* ---- arming */

struct lane_ends {
	uint64_t head, tail;
};

static void note_ends(const struct log_file *log, struct lane_ends *ends)
{
	for (uint32_t lane = 0; lane < log->lane_count; lane++)
		ends[lane] = (struct lane_ends){atomic_load(&log->lanes[lane].head), atomic_load(&log->lanes[lane].tail)};
}

/* The file may still be written to, and what is seen then may look torn: in a process of its own, and in silence. */
static bool check_ahead(const struct log_file *log, const char *library)
{
	int status = 0;
	pid_t child = fork();
	if (child == 0) {
		if (freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL)
			_exit(1);
		_exit(check(log, library));
	}
	while (child > 0 && waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int arm(const struct log_file *log, const char *library)
{
	static struct lane_ends before[LOG_LANES_MAX], now[LOG_LANES_MAX];
	char word[16];
	note_ends(log, before);
	bool checked = check_ahead(log, library);
	if (fgets(word, sizeof word, stdin) == NULL)
		return 0; /* not needed */
	bool paced = strcmp(word, "go paced\n") == 0;
	if (!paced && strcmp(word, "go\n") != 0)
		return 2;
	note_ends(log, now);
	if (!checked || memcmp(before, now, sizeof now) != 0) {
		int wrong = check(log, library);
		if (wrong != 0)
			return wrong;
	}
	int result = set_mode(log, "replay", "record", paced);
	if (result == 0)
		puts("armed");
	return result;
}

static int usage(void)
{
	fprintf(stderr, "usage: ftlog dump FILE [LANE] | stats FILE | check FILE [LIBRARY] | arm FILE LIBRARY | build LIBRARY | report FILE | create FILE LANES SEGMENTS [anew] | trim FILE [all] | "
	                "mode FILE MODE [MODE-AFTER-REPLAY [paced]]\n");
	return 2;
}

static int failed(const char *path, int error)
{
	fprintf(stderr, "ftlog: %s: %s\n", path, log_why(error));
	return error == -EBADMSG ? EXIT_DAMAGED : error == -EPROTO ? EXIT_OTHER_VERSION : 2;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return usage();
	const char *verb = argv[1], *path = argv[2];
	bool anew = argc == 6 && strcmp(argv[5], "anew") == 0;
	if (strcmp(verb, "create") == 0 && (argc == 5 || anew)) {
		int error = log_create(path, (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]), anew ? LOG_MODE_ANEW : LOG_MODE_RECORD);
		return error == 0 ? 0 : failed(path, error);
	}
	if (strcmp(verb, "build") == 0)
		return print_build(path);
	struct log_file log;
	bool trims = strcmp(verb, "trim") == 0, arms = strcmp(verb, "arm") == 0 && argc == 4, changes = trims || arms || (strcmp(verb, "mode") == 0 && argc >= 4);
	int error = log_map(path, changes, &log);
	if (error != 0)
		return failed(path, error);
	if (trims)
		return trim(&log, argc > 3 && strcmp(argv[3], "all") == 0);
	if (arms)
		return arm(&log, argv[3]);
	if (changes)
		return set_mode(&log, argv[3], argc > 4 ? argv[4] : NULL, argc > 5 && strcmp(argv[5], "paced") == 0);
	if (strcmp(verb, "dump") == 0)
		return dump(&log, argc > 3 ? atol(argv[3]) : -1);
	if (strcmp(verb, "stats") == 0)
		return stats(&log);
	if (strcmp(verb, "check") == 0)
		return check(&log, argc > 3 ? argv[3] : NULL);
	if (strcmp(verb, "report") == 0)
		return report(&log);
	return usage();
}
