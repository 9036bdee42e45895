#include "live/broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "live/inject.h"
#include "live/session.h"
#include "live/stand_in.h"

enum { PROCESSES_MAX = 256, BACKLOG = 64 };

static uint64_t monotonic_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t broker_clock_ns(const struct broker *broker)
{
	uint64_t now = monotonic_ns();
	return now > broker->clock_ns ? now : broker->clock_ns;
}

int broker_rebuild(struct broker *broker, int fd, const struct plan *plan, const uint8_t *output, int reuse)
{
	const char *step = "";
	uint64_t from = monotonic_ns();
	int result = rebuild(fd, plan, output, broker->raw, reuse, &step), error = errno;
	broker->count.rebuild_us += (monotonic_ns() - from) / 1000;
	if (result == 0) {
		broker->count.unread_bytes += plan->unread_bytes;
		broker->count.output_bytes += plan->old_output_bytes + plan->output_bytes;
	} else {
		fprintf(stderr, "ftlive: rebuilding a connection of port %u: %s: %s\n", plan->tuple.local_port, step,
			strerror(error));
	}
	errno = error;
	return result;
}

int broker_open(struct broker *broker, const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t length = strlen(name);
	broker->raw = broker->listener = -1;
	if (length > HANDOVER_NAME_BYTES_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(at.sun_path + 1, name, length);
	broker->raw = inject_open();
	broker->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (broker->raw >= 0 && broker->listener >= 0 &&
	    bind(broker->listener, (struct sockaddr *)&at,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) == 0 &&
	    listen(broker->listener, BACKLOG) == 0)
		return 0;
	int error = errno;
	broker_close(broker);
	errno = error;
	return -1;
}

void broker_close(struct broker *broker)
{
	if (broker->raw >= 0)
		close(broker->raw);
	if (broker->listener >= 0)
		close(broker->listener);
	broker->raw = broker->listener = -1;
}

/* The next process, within what is left of the time. */
static int admit(struct broker *broker, uint64_t until_ns)
{
	struct pollfd wait = { .fd = broker->listener, .events = POLLIN };
	uint64_t now = monotonic_ns();
	int ready = now >= until_ns ? 0 : poll(&wait, 1, (int)((until_ns - now) / 1000000) + 1);
	if (ready > 0)
		return accept4(broker->listener, NULL, NULL, SOCK_CLOEXEC);
	if (ready == 0)
		errno = ETIMEDOUT;
	return -1;
}

/* All claims first: the frames of a connection may come before those of another one that another process has. */
static int gather(struct broker *broker, struct session *sessions)
{
	uint64_t until_ns = monotonic_ns() + (uint64_t)broker->timeout_ms * 1000000;
	for (unsigned i = 0; i < broker->processes; i++) {
		sessions[i].socket = admit(broker, until_ns);
		if (sessions[i].socket < 0 || session_hear(broker, &sessions[i], &broker->processes) != 0)
			return -1;
		if (broker->processes > PROCESSES_MAX) {
			errno = E2BIG;
			return -1;
		}
	}
	if (session_feed(broker, sessions, broker->processes) != 0)
		return -1;
	for (unsigned i = 0; i < broker->processes; i++)
		if (session_rebuild(broker, &sessions[i]) != 0)
			return -1;
	return 0;
}

static void say_results(struct broker *broker, struct session *sessions, const struct stand_ins *waiting)
{
	for (unsigned i = 0; i < broker->processes; i++) {
		if (session_results(&sessions[i]) != 0 || stand_ins_tell(waiting, sessions[i].socket) != 0) {
			fprintf(stderr, "ftlive: process %u: %s\n", i, strerror(errno));
			session_free(&sessions[i]);
		}
	}
}

/* Until every stand-in is taken, all processes have gone, or the time is over. */
static void serve(struct broker *broker, struct session *sessions, struct stand_ins *waiting)
{
	struct pollfd wait[PROCESSES_MAX];
	uint64_t until_ns = monotonic_ns() + (uint64_t)broker->accept_timeout_ms * 1000000;
	while (waiting->left > 0) {
		bool any = false;
		for (unsigned i = 0; i < broker->processes; i++) {
			wait[i] = (struct pollfd){ .fd = sessions[i].socket, .events = POLLIN };
			any |= sessions[i].socket >= 0;
		}
		uint64_t now = monotonic_ns();
		if (!any || now >= until_ns)
			return;
		int ready = poll(wait, broker->processes, (int)((until_ns - now) / 1000000) + 1);
		if (ready < 0 && errno != EINTR)
			return;
		for (unsigned i = 0; ready > 0 && i < broker->processes; i++)
			if (wait[i].revents != 0 && stand_ins_give(waiting, sessions[i].socket) != 0)
				session_free(&sessions[i]);
	}
}

int broker_run(struct broker *broker)
{
	if (broker->processes > PROCESSES_MAX) {
		errno = E2BIG;
		return -1;
	}
	struct session *sessions = calloc(PROCESSES_MAX, sizeof *sessions);
	if (sessions == NULL)
		return -1;
	struct stand_ins waiting = { 0 };
	for (unsigned i = 0; i < PROCESSES_MAX; i++)
		sessions[i].socket = -1;
	int result = gather(broker, sessions);
	if (result == 0 && broker->accept_timeout_ms > 0)
		result = stand_ins_make(broker, &waiting);
	int error = errno;
	if (result == 0) {
		broker->count.waiting = waiting.left;
		say_results(broker, sessions, &waiting);
		serve(broker, sessions, &waiting);
		broker->count.lost = waiting.left;
		broker->count.given = broker->count.waiting - waiting.left;
	}
	stand_ins_free(&waiting);
	for (unsigned i = 0; i < PROCESSES_MAX; i++)
		session_free(&sessions[i]);
	free(sessions);
	errno = error;
	return result;
}
