#include "hook/splices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/helper.h"

enum { OWN_MAX = 64, PAIRS_MAX = 64 };

/* CRIU's pipes by their numbers; `from` -1: none. The last ones, in turn. */
static struct {
	int from, to;
} pair[PAIRS_MAX];
static size_t pairs;

static struct {
	int image;          /* CRIU's descriptor of the image of pages; -1: none is open */
	int from, own_from; /* CRIU's pipe and our copy of it; -1: none */
	int own_to;
	int own[OWN_MAX]; /* all copies that may be in use */
	size_t owned;
	bool waiting; /* something was posted since the last finish */
	atomic_bool failed;
} state = { .image = -1, .from = -1, .own_from = -1, .own_to = -1 };

static void move(const struct job *job)
{
	for (size_t left = job->length; left > 0;) {
		long moved = syscall(SYS_splice, job->from, NULL, job->to, NULL, left,
				     SPLICE_F_MOVE | SPLICE_F_NONBLOCK); /* all of it is in the pipe */
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0) {
			state.failed = true;
			return;
		}
		left -= (size_t)moved;
	}
}

static int own(int fd)
{
	if (state.owned == OWN_MAX)
		(void)splices_finish();
	int copy = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	if (copy >= 0)
		state.own[state.owned++] = copy;
	return copy;
}

void splices_piped(int from, int to)
{
	pair[pairs % PAIRS_MAX].from = from;
	pair[pairs % PAIRS_MAX].to = to;
	pairs++;
}

/*
 * The end that CRIU closes last would wait for the helper, who holds the pipe's lock while he moves: so it must not be the last. One
 * that CRIU has closed by now, or uses otherwise, is held a little longer, and nothing else.
 */
static void own_other_end(int from)
{
	for (size_t i = 0; i < pairs && i < PAIRS_MAX; i++)
		if (pair[i].from == from)
			(void)own(pair[i].to);
}

void splices_image(const char *name, int fd)
{
	if (fd >= 0 && strncmp(name, "pages-", 6) == 0) {
		state.image = fd;
		state.own_to = -1;
	}
}

void splices_closed(int fd)
{
	if (fd == state.image)
		state.image = state.own_to = -1;
	if (fd == state.from)
		state.from = state.own_from = -1;
	for (size_t i = 0; i < pairs && i < PAIRS_MAX; i++)
		if (pair[i].from == fd || pair[i].to == fd)
			pair[i].from = pair[i].to = -1;
}

bool splices_take(int from, int to, size_t length)
{
	if (to < 0 || to != state.image)
		return false;
	if (state.own_to < 0)
		state.own_to = own(to);
	if (from != state.from || state.own_from < 0) {
		if (state.owned > OWN_MAX - 2)
			(void)splices_finish();
		own_other_end(from);
		state.own_from = own(from);
		state.from = from;
	}
	const struct job job = { .run = move, .from = state.own_from, .to = state.own_to, .length = length };
	bool taken = job.from >= 0 && job.to >= 0 && (helper_extend(&job) || helper_post(&job));
	state.waiting |= taken;
	if (!taken)
		(void)splices_finish(); /* in order */
	return taken;
}

bool splices_finish(void)
{
	if (!state.waiting && state.owned == 0)
		return !state.failed;
	helper_finish();
	for (size_t i = 0; i < state.owned; i++)
		syscall(SYS_close, state.own[i]);
	state.owned = 0;
	state.waiting = false;
	state.from = state.own_from = state.own_to = -1;
	return !state.failed;
}

bool splices_whole(void)
{
	return !state.failed;
}
