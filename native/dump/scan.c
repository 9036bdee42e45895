#include "dump/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dump/clock.h"

enum { SCAN_GO = 1, SCAN_CANCEL = 2 };

static void scan_frozen(struct scan *scan)
{
	uint64_t from = clock_us();
	scan->result = tree_read(scan->tree, scan->root);
	if (scan->result == 0)
		scan->result = tree_uses_read(scan->tree, scan->uses);
	if (scan->result == 0) {
		const struct files_scan_options options = {
			.frozen = 1, .used = scan->uses->use, .used_count = scan->uses->count, .doubt = scan->uses->doubt,
		};
		scan->result = files_scan(scan->index, scan->writer, &options, &scan->stats);
	}
	scan->error = scan->result == 0 ? 0 : errno;
	scan->us = clock_us() - from;
}

static void post(int fd, uint64_t value)
{
	if (write(fd, &value, sizeof value) != sizeof value)
		abort(); /* an eventfd of our own that nobody has written to */
}

static void *scan_thread(void *argument)
{
	struct scan *scan = argument;
	uint64_t what = 0;
	while (read(scan->begin, &what, sizeof what) < 0 && errno == EINTR)
		;
	if (what == SCAN_GO)
		scan_frozen(scan);
	post(scan->done, 1);
	return NULL;
}

int scan_prepare(struct scan *scan)
{
	scan->result = -1;
	scan->error = ECANCELED;
	scan->begin = eventfd(0, EFD_CLOEXEC);
	scan->done = eventfd(0, EFD_CLOEXEC);
	if (scan->begin < 0 || scan->done < 0)
		return -1;
	int error = pthread_create(&scan->thread, NULL, scan_thread, scan);
	scan->started = error == 0;
	errno = error;
	return error == 0 ? 0 : -1;
}

void scan_begin(struct scan *scan)
{
	post(scan->begin, SCAN_GO);
}

void scan_end(struct scan *scan)
{
	if (scan->started) {
		/* After a begin the thread has read already, or reads GO + CANCEL = 3 and does nothing. */
		post(scan->begin, SCAN_CANCEL);
		pthread_join(scan->thread, NULL);
		scan->started = false;
	}
	if (scan->begin >= 0)
		close(scan->begin);
	if (scan->done >= 0)
		close(scan->done);
	scan->begin = scan->done = -1;
}
