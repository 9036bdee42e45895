#include "init/init.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const state_names[] = { "waiting", "running", "exited" };

int init_exit_code(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

static void ok_pid(struct line_writer *reply, pid_t pid)
{
	line_begin(reply, "ok");
	line_i64(reply, "pid", pid);
	line_end(reply);
}

static void hello(struct line_writer *reply)
{
	line_begin(reply, "ok");
	line_raw(reply, "program", "ftinit");
	line_u64(reply, "protocol", LINE_PROTOCOL);
	line_i64(reply, "pid", getpid());
	line_end(reply);
}

static void status(const struct init *self, struct line_writer *reply)
{
	line_begin(reply, "ok");
	line_raw(reply, "state", state_names[self->state]);
	line_i64(reply, "pid", self->application);
	line_i64(reply, "status", self->state == INIT_EXITED ? init_exit_code(self->wait_status) : 0);
	line_end(reply);
}

static void start(struct init *self, struct line_writer *reply)
{
	if (self->state != INIT_WAITING)
		return line_fail(reply, "state", 0, state_names[self->state]);
	if (application_start(self->command, self->record, &self->application) != 0)
		return line_fail(reply, "exec", errno, "the command could not be executed");
	self->state = INIT_RUNNING;
	ok_pid(reply, self->application);
}

static bool was_lost(const struct init *self, pid_t pid)
{
	for (unsigned i = 0; i < INIT_LOST_MAX; i++)
		if (self->lost[i].pid == pid)
			return true;
	return false;
}

static void adopt(struct init *self, const struct line *request, struct line_writer *reply)
{
	uint64_t number;
	if (line_get_u64(request, "pid", &number) != 0 || number < 2 || number > INT_MAX)
		return line_fail(reply, "usage", EINVAL, "adopt pid=N");
	if (self->state != INIT_WAITING)
		return line_fail(reply, "state", 0, state_names[self->state]);
	pid_t pid = (pid_t)number;
	if (application_is_child(pid) != 0) {
		int code = errno;
		if (was_lost(self, pid))
			return line_fail(reply, "gone", code, "the process has ended");
		return line_fail(reply, "not-child", code, "no child has this pid");
	}
	self->application = pid;
	self->state = INIT_RUNNING;
	ok_pid(reply, pid);
}

bool init_request(struct init *self, const struct line *request, struct line_writer *reply)
{
	if (strcmp(request->verb, "hello") == 0) {
		hello(reply);
	} else if (strcmp(request->verb, "status") == 0) {
		status(self, reply);
	} else if (strcmp(request->verb, "start") == 0) {
		start(self, reply);
	} else if (strcmp(request->verb, "adopt") == 0) {
		adopt(self, request, reply);
	} else if (strcmp(request->verb, "subscribe") == 0) {
		line_begin(reply, "ok");
		line_end(reply);
		return true;
	} else {
		line_fail(reply, "usage", EINVAL, "hello, status, start, adopt or subscribe");
	}
	return false;
}

void init_event_exited(const struct init *self, struct line_writer *event)
{
	line_begin(event, "event exited");
	line_i64(event, "pid", self->application);
	line_i64(event, "status", init_exit_code(self->wait_status));
	line_i64(event, "signal", WIFSIGNALED(self->wait_status) ? WTERMSIG(self->wait_status) : 0);
	line_end(event);
}

void init_reap(struct init *self)
{
	int ended;
	pid_t pid;
	while ((pid = waitpid(-1, &ended, WNOHANG)) > 0) {
		if (self->state == INIT_RUNNING && pid == self->application) {
			self->state = INIT_EXITED;
			self->wait_status = ended;
		} else if (self->state == INIT_WAITING) {
			self->lost[self->lost_next] = (struct init_lost){ pid, ended };
			self->lost_next = (self->lost_next + 1) % INIT_LOST_MAX;
		}
	}
}

int init_signal(const struct init *self, int signal)
{
	if (self->state == INIT_RUNNING) {
		(void)kill(self->application, signal); /* ESRCH: it has just ended, and is reaped next */
		return -1;
	}
	bool ends = signal == SIGTERM || signal == SIGINT || signal == SIGQUIT || signal == SIGHUP;
	return self->state == INIT_WAITING && ends ? 128 + signal : -1;
}
