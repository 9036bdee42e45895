/* The requests of ftinit against real children of the test program. */
#include "init/init.h"
#include "test/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *answer(struct init *init, const char *text, bool *subscribed)
{
	static struct line_writer reply;
	char copy[256];
	struct line request;
	size_t length = strlen(text);
	memcpy(copy, text, length + 1);
	if (line_parse(copy, length, &request) != 0)
		return "no line";
	*subscribed = init_request(init, &request, &reply);
	reply.text[reply.length] = '\0';
	return reply.text;
}

static const char *ask(struct init *init, const char *text)
{
	bool subscribed;
	return answer(init, text, &subscribed);
}

static void reap_until(struct init *init, enum init_state state)
{
	siginfo_t info;
	while (init->state != state && waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0)
		init_reap(init);
}

static pid_t child_sleeping(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		alarm(30);
		pause();
		_exit(1);
	}
	return pid;
}

TEST(waits_before_it_is_told)
{
	struct init init = { 0 };
	bool subscribed = false;
	CHECK(strncmp(ask(&init, "hello"), "ok program=ftinit protocol=1 pid=", 33) == 0);
	CHECK_STR(ask(&init, "status"), "ok state=waiting pid=0 status=0\n");
	CHECK_STR(answer(&init, "subscribe", &subscribed), "ok\n");
	CHECK(subscribed);
	CHECK(strncmp(answer(&init, "explode", &subscribed), "fail code=usage", 15) == 0);
	CHECK(!subscribed);
}

TEST(starts_once_and_reports_the_exit)
{
	char *command[] = { "sh", "-c", "exit 9", NULL };
	struct init init = { .command = command };
	struct line_writer event;
	char want[128];
	CHECK(strncmp(ask(&init, "start"), "ok pid=", 7) == 0);
	CHECK_EQ(init.state, INIT_RUNNING);
	pid_t pid = init.application;
	CHECK(strncmp(ask(&init, "start"), "fail code=state", 15) == 0);
	CHECK(strncmp(ask(&init, "adopt pid=5"), "fail code=state", 15) == 0);
	reap_until(&init, INIT_EXITED);
	CHECK_EQ(init_exit_code(init.wait_status), 9);
	snprintf(want, sizeof(want), "ok state=exited pid=%d status=9\n", pid);
	CHECK_STR(ask(&init, "status"), want);
	init_event_exited(&init, &event);
	event.text[event.length] = '\0';
	snprintf(want, sizeof(want), "event exited pid=%d status=9 signal=0\n", pid);
	CHECK_STR(event.text, want);
}

TEST(says_why_a_command_could_not_be_executed)
{
	char *command[] = { "/nonexistent/command", NULL };
	struct init init = { .command = command };
	CHECK(strncmp(ask(&init, "start"), "fail code=exec errno=2 ", 23) == 0);
	CHECK_EQ(init.state, INIT_WAITING);
	reap_until(&init, INIT_EXITED); /* only the failed child: the state stays */
	CHECK_EQ(init.state, INIT_WAITING);
}

/* What the application of the next test is: this program, looking at how it was started. */
static int inspect_start(void)
{
	sigset_t blocked;
	struct sigaction action;
	bool unblocked = sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && !sigismember(&blocked, SIGTERM);
	bool unignored = sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL;
	bool leads = getsid(0) == getpid() && getpgrp() == getpid();
	bool closed = fcntl(57, F_GETFD) == -1;
	return unblocked && unignored && leads && closed ? 0 : 1;
}

TEST(gives_the_application_a_clean_start)
{
	/* A session of its own, nothing blocked, nothing ignored, whatever ftinit itself had set. */
	char *command[] = { "/proc/self/exe", "inspect", NULL };
	struct init init = { .command = command };
	CHECK_EQ(dup2(STDOUT_FILENO, 57), 57); /* not close-on-exec: only close_range() keeps it out */
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	signal(SIGPIPE, SIG_IGN);
	CHECK(strncmp(ask(&init, "start"), "ok pid=", 7) == 0);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(57);
	reap_until(&init, INIT_EXITED);
	CHECK_EQ(init_exit_code(init.wait_status), 0);
}

TEST(adopts_only_a_living_child)
{
	struct init init = { 0 };
	struct line_writer event;
	char request[64];
	CHECK(strncmp(ask(&init, "adopt"), "fail code=usage", 15) == 0);
	CHECK(strncmp(ask(&init, "adopt pid=-1"), "fail code=usage", 15) == 0);
	CHECK(strncmp(ask(&init, "adopt pid=1"), "fail code=usage", 15) == 0);
	CHECK(strncmp(ask(&init, "adopt pid=99999999999"), "fail code=usage", 15) == 0);
	snprintf(request, sizeof(request), "adopt pid=%d", getppid());
	CHECK(strncmp(ask(&init, request), "fail code=not-child", 19) == 0);

	pid_t dead = fork();
	if (dead == 0)
		_exit(0);
	siginfo_t info;
	CHECK_EQ(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT), 0);
	init_reap(&init);
	CHECK_EQ(init.state, INIT_WAITING);
	snprintf(request, sizeof(request), "adopt pid=%d", dead);
	CHECK(strncmp(ask(&init, request), "fail code=gone", 14) == 0);

	pid_t alive = child_sleeping();
	snprintf(request, sizeof(request), "adopt pid=%d", alive);
	CHECK(strncmp(ask(&init, request), "ok pid=", 7) == 0);
	CHECK_EQ(init_signal(&init, SIGUSR1), -1); /* forwarded: it dies of it */
	reap_until(&init, INIT_EXITED);
	CHECK_EQ(init_exit_code(init.wait_status), 128 + SIGUSR1);
	init_event_exited(&init, &event);
	event.text[event.length] = '\0';
	CHECK(strstr(event.text, "status=138 signal=10") != NULL);
}

TEST(ends_by_a_signal_only_while_it_waits)
{
	struct init init = { 0 };
	CHECK_EQ(init_signal(&init, SIGTERM), 143);
	CHECK_EQ(init_signal(&init, SIGINT), 130);
	CHECK_EQ(init_signal(&init, SIGUSR1), -1);
	CHECK_EQ(init_signal(&init, SIGWINCH), -1);
	init.state = INIT_EXITED;
	CHECK_EQ(init_signal(&init, SIGTERM), -1);
}

TEST(an_orphan_does_not_end_it)
{
	char *command[] = { "sleep", "30", NULL };
	struct init init = { .command = command };
	CHECK(strncmp(ask(&init, "start"), "ok pid=", 7) == 0);
	pid_t orphan = fork();
	if (orphan == 0)
		_exit(3);
	siginfo_t info;
	CHECK_EQ(waitid(P_PID, (id_t)orphan, &info, WEXITED | WNOWAIT), 0);
	init_reap(&init);
	CHECK_EQ(init.state, INIT_RUNNING);
	CHECK_EQ(waitid(P_PID, (id_t)orphan, &info, WEXITED | WNOHANG), -1); /* reaped */
	init_signal(&init, SIGTERM);
	reap_until(&init, INIT_EXITED);
	CHECK_EQ(init_exit_code(init.wait_status), 143);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "inspect") == 0)
		return inspect_start();
	RUN(waits_before_it_is_told);
	RUN(starts_once_and_reports_the_exit);
	RUN(says_why_a_command_could_not_be_executed);
	RUN(gives_the_application_a_clean_start);
	RUN(adopts_only_a_living_child);
	RUN(ends_by_a_signal_only_while_it_waits);
	RUN(an_orphan_does_not_end_it);
	return check_report();
}
