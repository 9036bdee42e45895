#include "feed/feed.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dump/clock.h"

#define RESTORE_FINISHED 0x52535446
enum { LISTENER, STARTER, GUARD, FIXED, SPACES_MAX = 16384, IDLE_MS = 1000, EVENTS_MAX = 64, PACED_PAGES = 4 };

static int no_memory(struct epoch_error *e)
{
	return epoch_fail(e, "space", ENOMEM, "no memory");
}

static struct space *add_space(struct feed *feed, struct epoch_error *e)
{
	if (feed->spaces == feed->room) {
		size_t room = feed->room ? feed->room * 2 : 16;
		struct space *grown = room > SPACES_MAX ? NULL : realloc(feed->space, room * sizeof *grown);
		if (grown == NULL) {
			epoch_fail(e, "space", ENOMEM, "too many processes wait for their memory");
			return NULL;
		}
		feed->space = grown;
		feed->room = room;
	}
	return &feed->space[feed->spaces++];
}

/* ---- CRIU's connection ---- */

static int receive_descriptor(int client)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	if (recvmsg(client, &message, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd;
	if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
	    header->cmsg_len != CMSG_LEN(sizeof fd))
		return -1;
	memcpy(&fd, CMSG_DATA(header), sizeof fd);
	return fd;
}

static int take_process(struct feed *feed, int pid, struct epoch_error *e)
{
	int fd = receive_descriptor(feed->client);
	const struct lazy_set *set = lazy_find(feed->list, (uint64_t)pid);
	if (fd < 0)
		return epoch_fail(e, "criu", errno, "CRIU sent no userfaultfd for process %d", pid);
	if (set == NULL)
		return epoch_fail(e, "corrupt", 0, "process %d is not in the list of lazy pages", pid);
	struct space *space = add_space(feed, e);
	return space == NULL ? -1 : space_open(space, fd, &feed->source[set - feed->list->set], e);
}

static void close_client(struct feed *feed)
{
	close(feed->client);
	feed->client = -1;
}

static int take_message(struct feed *feed, struct epoch_error *e)
{
	int pid;
	ssize_t got = recv(feed->client, &pid, sizeof pid, MSG_WAITALL);
	if (got != (ssize_t)sizeof pid) {
		close_client(feed); /* the one who started the restore says how it ended */
		return 0;
	}
	if (pid == RESTORE_FINISHED) {
		feed->finished = true;
		close_client(feed);
		return 0;
	}
	return pid < 0 ? 0 : take_process(feed, pid, e);
}

static int take_client(struct feed *feed, struct epoch_error *e)
{
	struct timeval limit = { .tv_sec = 5 };
	feed->client = accept4(feed->listener, NULL, NULL, SOCK_CLOEXEC);
	if (feed->client < 0 || setsockopt(feed->client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
		return epoch_fail(e, "io", errno, "CRIU's connection");
	close(feed->listener);
	feed->listener = -1;
	return 0;
}

/* ---- the spaces ---- */

/* All messages there are, but not for ever. */
static int read_events(struct feed *feed, size_t index, struct epoch_error *e)
{
	for (int i = 0; i < EVENTS_MAX; i++) {
		struct space child;
		enum space_result result = space_event(&feed->space[index], &child, &feed->counts, e);
		if (child.fd >= 0) {
			struct space *slot = add_space(feed, e);
			if (slot == NULL)
				return -1;
			*slot = child;
		}
		if (result == SPACE_FAILED)
			return -1;
		if (result == SPACE_GONE)
			space_close(&feed->space[index]);
		if (result != SPACE_OK)
			return 0;
	}
	return 0;
}

/* A slice of each. */
static int fill_spaces(struct feed *feed, struct epoch_error *e)
{
	for (size_t i = 0; i < feed->spaces; i++) {
		struct space *space = &feed->space[i];
		if (space->fd < 0)
			continue;
		enum space_result result = space_step(space, feed->pace_ms > 0 ? PACED_PAGES : FEED_SLICE_PAGES, &feed->counts, e);
		if (result == SPACE_FAILED)
			return -1;
		if (result == SPACE_GONE || (result == SPACE_OK && space->missing.count == 0))
			space_close(space);
	}
	return 0;
}

static bool is_due(struct feed *feed)
{
	uint64_t now = feed->pace_ms > 0 ? clock_us() : 0;
	if (now < feed->due_us)
		return false;
	feed->due_us = now + (uint64_t)feed->pace_ms * 1000;
	return true;
}

static void remove_closed(struct feed *feed)
{
	size_t kept = 0;
	for (size_t i = 0; i < feed->spaces; i++)
		if (feed->space[i].fd >= 0)
			feed->space[kept++] = feed->space[i];
	feed->spaces = kept;
}

static int take_ready(struct feed *feed, const struct pollfd *ready, size_t spaces, struct epoch_error *e)
{
	if (ready[GUARD].revents != 0)
		return epoch_fail(e, "unguarded", 0, "the process that guards the memory has ended");
	for (size_t i = 0; i < spaces; i++)
		if (ready[FIXED + i].revents != 0 && read_events(feed, i, e) != 0)
			return -1;
	if (ready[LISTENER].revents == 0)
		return 0;
	return feed->client >= 0 ? take_message(feed, e) : take_client(feed, e);
}

enum feed_outcome feed_run(struct feed *feed, struct epoch_error *e)
{
	struct pollfd *ready = NULL;
	size_t room = 0;
	enum feed_outcome outcome = FEED_FAILED;
	for (;;) {
		if (feed->turns != NULL)
			(*feed->turns)++;
		if (feed->finished && feed->spaces == 0) {
			outcome = FEED_DONE;
			break;
		}
		if (room < FIXED + feed->spaces) {
			room = (FIXED + feed->spaces) * 2;
			struct pollfd *grown = realloc(ready, room * sizeof *grown);
			if (grown == NULL && no_memory(e) != 0)
				break;
			ready = grown;
		}
		ready[LISTENER] = (struct pollfd){ .fd = feed->client >= 0 ? feed->client : feed->listener, .events = POLLIN };
		ready[STARTER] = (struct pollfd){ .fd = feed->finished ? -1 : feed->starter, .events = POLLIN };
		ready[GUARD] = (struct pollfd){ .fd = feed->guard, .events = POLLIN };
		size_t spaces = feed->spaces;
		for (size_t i = 0; i < spaces; i++)
			ready[FIXED + i] = (struct pollfd){ .fd = feed->space[i].fd, .events = POLLIN };
		if (poll(ready, FIXED + spaces, feed->finished && feed->pace_ms < IDLE_MS ? feed->pace_ms : IDLE_MS) < 0 && errno != EINTR) {
			epoch_fail(e, "io", errno, "poll");
			break;
		}
		if (take_ready(feed, ready, spaces, e) != 0)
			break;
		/* It hangs up when it is over; CRIU may have said so in the same moment. */
		if (ready[STARTER].revents != 0 && ready[LISTENER].revents == 0 && !feed->finished) {
			outcome = FEED_ABORTED;
			break;
		}
		if (feed->finished && is_due(feed) && fill_spaces(feed, e) != 0)
			break;
		remove_closed(feed);
	}
	free(ready);
	return outcome;
}
