/* ftstore: the standby's checkpoints of one pair, over the line protocol on stdin and stdout. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault/fault.h"
#include "line/line.h"
#include "store/store.h"

#define BLOB_BYTES_MAX (8ull << 30)
#define JOURNAL_BYTES_MAX (1ull << 30)
#define MATERIALIZE_TIMEOUT_MS 25000
#define PREPARE_TIMEOUT_MS 500
#define PREPARE_BYTES_MAX (64ull << 20) /* copied at most; the primary may live, and waits for us meanwhile */

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER; /* replies and events, each line whole */

static void send_line(const struct line_writer *writer)
{
	pthread_mutex_lock(&output);
	for (size_t at = 0; at < writer->length;) {
		ssize_t done = write(STDOUT_FILENO, writer->text + at, writer->length - at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			exit(1); /* nobody listens any more */
		at += (size_t)done;
	}
	pthread_mutex_unlock(&output);
}

static void send_fail(const struct epoch_error *e)
{
	struct line_writer writer;
	line_fail(&writer, e->code[0] ? e->code : "io", e->error, e->detail);
	send_line(&writer);
}

static void tell_trouble(const struct epoch_error *trouble)
{
	struct line_writer writer;
	line_begin(&writer, trouble->code[0] ? "event apply-failed" : "event apply-recovered");
	if (trouble->code[0]) {
		line_raw(&writer, "code", trouble->code);
		line_i64(&writer, "errno", trouble->error);
		line_text(&writer, "detail", trouble->detail);
	}
	line_end(&writer);
	send_line(&writer);
}

static void add_position(struct line_writer *writer, const struct store *s)
{
	line_u64(writer, "epoch", s->committed.epoch);
	line_u64(writer, "generation", s->committed.generation);
	line_u64(writer, "files_seq", s->committed.files_seq);
	line_u64(writer, "need_full", s->committed.epoch == 0 || s->committed.need_images || s->committed.need_files);
}

static int usage(struct epoch_error *e, const char *what)
{
	return epoch_fail(e, "usage", 0, "%s", what);
}

static int do_hello(struct store *s, struct line_writer *reply)
{
	line_raw(reply, "program", "ftstore");
	line_u64(reply, "protocol", LINE_PROTOCOL);
	line_u64(reply, "pid", (uint64_t)getpid());
	add_position(reply, s);
	return 0;
}

static int do_status(struct store *s, struct line_writer *reply)
{
	add_position(reply, s);
	pthread_mutex_lock(&s->lock);
	line_u64(reply, "journal_epochs", s->journal_count);
	line_u64(reply, "journal_bytes", s->journal_bytes);
	line_u64(reply, "image_bytes", s->table->bytes + pages_table_pages(s->pages) * PAGE_BYTES);
	line_u64(reply, "images", s->table->count);
	line_u64(reply, "skipped", s->skipped);
	line_u64(reply, "root_pid", s->root_pid);
	if (s->trouble.code[0]) {
		line_raw(reply, "trouble", s->trouble.code);
		line_text(reply, "detail", s->trouble.detail);
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int do_commit(struct store *s, const struct line *line, struct line_writer *reply, struct epoch_error *e)
{
	char path[LINE_BYTES_MAX];
	uint64_t epoch;
	struct commit_result result;
	if (line_get_u64(line, "epoch", &epoch) != 0 || line_get_text(line, "path", path, sizeof path) != 0)
		return usage(e, "commit epoch=N path=FILE");
	if (store_commit(s, epoch, path, &result, e) != 0)
		return -1;
	line_u64(reply, "epoch", epoch);
	line_u64(reply, "bytes", result.bytes);
	line_u64(reply, "verify_us", result.verify_us);
	line_u64(reply, "commit_us", result.commit_us);
	return 0;
}

static int do_prepare(struct store *s, const struct line *line, struct epoch_error *e)
{
	char path[LINE_BYTES_MAX];
	uint64_t lazy_from;
	if (line_get_text(line, "images", path, sizeof path) != 0 || line_get_u64_or(line, "lazy-from", UINT64_MAX, &lazy_from) != 0)
		return usage(e, "prepare images=DIR [lazy-from=BYTES]");
	return store_prepare(s, path, lazy_from, PREPARE_BYTES_MAX, PREPARE_TIMEOUT_MS, e);
}

static int do_materialize(struct store *s, const struct line *line, struct line_writer *reply, struct epoch_error *e)
{
	char path[LINE_BYTES_MAX];
	struct materialized result;
	uint64_t lazy_from, prepared;
	if (line_get_text(line, "images", path, sizeof path) != 0 || line_get_u64_or(line, "lazy-from", UINT64_MAX, &lazy_from) != 0 ||
	    line_get_u64_or(line, "prepared", 0, &prepared) != 0)
		return usage(e, "materialize images=DIR [lazy-from=BYTES] [prepared=1]");
	if (prepared == 0)
		store_unprepare(s); /* whoever asks may have emptied the directory */
	else if (!store_is_prepared(s, path, lazy_from))
		return epoch_fail(e, "unprepared", 0, "an epoch has come since");
	if (store_materialize(s, path, lazy_from, MATERIALIZE_TIMEOUT_MS, &result, e) != 0)
		return -1;
	line_u64(reply, "epoch", s->committed.epoch);
	line_u64(reply, "generation", s->committed.generation);
	line_u64(reply, "files", result.files);
	line_u64(reply, "image_bytes", result.image_bytes);
	line_u64(reply, "lazy_bytes", result.lazy_pages * PAGE_BYTES);
	return 0;
}

static int do_attach(struct store *s, const struct line *line, struct line_writer *reply, struct epoch_error *e)
{
	uint64_t pid;
	if (line_get_u64(line, "root-pid", &pid) != 0)
		return usage(e, "attach root-pid=PID");
	if (store_attach(s, pid, e) < 0)
		return -1;
	add_position(reply, s);
	return 0;
}

/* 1: goes on, 0: quit. */
static int handle(struct store *s, char *text, size_t length)
{
	struct line line;
	struct line_writer reply;
	struct epoch_error e = {.code = ""};
	int result, more = 1;
	line_begin(&reply, "ok");
	if (line_parse(text, length, &line) != 0)
		result = usage(&e, "not a line of the protocol");
	else if (strcmp(line.verb, "hello") == 0)
		result = do_hello(s, &reply);
	else if (strcmp(line.verb, "commit") == 0)
		result = do_commit(s, &line, &reply, &e);
	else if (strcmp(line.verb, "prepare") == 0)
		result = do_prepare(s, &line, &e);
	else if (strcmp(line.verb, "materialize") == 0)
		result = do_materialize(s, &line, &reply, &e);
	else if (strcmp(line.verb, "attach") == 0)
		result = do_attach(s, &line, &reply, &e);
	else if (strcmp(line.verb, "discard") == 0)
		result = store_discard(s, &e);
	else if (strcmp(line.verb, "status") == 0)
		result = do_status(s, &reply);
	else if (strcmp(line.verb, "quit") == 0)
		result = more = 0;
	else
		result = usage(&e, "hello commit prepare materialize attach discard status quit");
	if (result != 0) {
		send_fail(&e);
		return 1;
	}
	line_end(&reply);
	send_line(&reply);
	return more;
}

static int serve(struct store *s)
{
	static struct line_reader reader;
	char *text;
	size_t length;
	for (;;) {
		int more = line_reader_next(&reader, &text, &length);
		if (more < 0) {
			struct epoch_error e;
			usage(&e, "a line that is too long");
			send_fail(&e);
			return 1;
		}
		if (more > 0) {
			if (!handle(s, text, length))
				return 0;
			continue;
		}
		size_t space = line_reader_space(&reader);
		ssize_t got = read(STDIN_FILENO, reader.text + reader.length, space);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0 ? 0 : 1;
		reader.length += (size_t)got;
	}
}

static int parse_options(int count, char **words, struct store_options *out)
{
	static const struct option known[] = {
		{"dir", 1, NULL, 'd'},      {"spool", 1, NULL, 's'},          {"pair", 1, NULL, 'p'},
		{"root-pid", 1, NULL, 'r'}, {"roots", 1, NULL, 'f'},          {"journal-bytes-max", 1, NULL, 'j'},
		{NULL, 0, NULL, 0},
	};
	*out = (struct store_options){.blob_bytes_max = BLOB_BYTES_MAX, .journal_bytes_max = JOURNAL_BYTES_MAX};
	int c, bad = 0;
	while ((c = getopt_long(count, words, "", known, NULL)) != -1) {
		switch (c) {
		case 'd':
			out->dir = optarg;
			break;
		case 's':
			out->spool = optarg;
			break;
		case 'p':
			out->pair = optarg;
			break;
		case 'f':
			out->roots = optarg;
			break;
		case 'r':
			bad |= line_parse_u64(optarg, &out->root_pid) != 0;
			break;
		case 'j':
			bad |= line_parse_u64(optarg, &out->journal_bytes_max) != 0;
			break;
		default:
			bad = 1;
		}
	}
	return bad || optind != count || !out->dir || !out->pair || !out->roots || strlen(out->pair) >= EPOCH_PAIR_BYTES ? -1 : 0;
}

int main(int count, char **words)
{
	struct store_options options;
	struct epoch_error e = {.code = ""};
	if (parse_options(count, words, &options) != 0) {
		fprintf(stderr, "usage: ftstore --dir DIR --pair ID --roots FILE [--spool DIR] [--root-pid PID] [--journal-bytes-max N]\n");
		return 2;
	}
	umask(0); /* modes of the container's files are given exactly */
	signal(SIGPIPE, SIG_IGN);
	(void)ft_fault("");
	store_on_trouble = tell_trouble;
	struct store *s = store_open(&options, &e);
	if (s == NULL) {
		send_fail(&e); /* the answer to the first request, which is hello */
		fprintf(stderr, "ftstore: %s: %s\n", e.code, e.detail);
		return 1;
	}
	int result = serve(s);
	store_close(s);
	return result;
}
