#include "fault/fault.h"
#include "test/check.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

TEST(inert_when_unset)
{
	CHECK_EQ(ft_fault_load(NULL), 0);
	CHECK_EQ(ft_fault("gate.mark"), 0);
	CHECK_EQ(ft_fault_load(""), 0);
	CHECK_EQ(ft_fault("gate.mark"), 0);
}

TEST(error_fires_once_after_its_skips)
{
	CHECK_EQ(ft_fault_load("gate.mark:error:2"), 0);
	CHECK_EQ(ft_fault("gate.release"), 0);
	CHECK_EQ(ft_fault("gate.mark"), 0);
	CHECK_EQ(ft_fault("gate.mark"), 0);
	CHECK_EQ(ft_fault("gate.mark"), -1);
	CHECK_EQ(errno, EIO);
	CHECK_EQ(ft_fault("gate.mark"), 0);
}

TEST(delay_delays_once)
{
	struct timespec before, after;
	CHECK_EQ(ft_fault_load("a:error,gate.mark:delay=30"), 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	CHECK_EQ(ft_fault("gate.mark"), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	int64_t us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
	CHECK(us >= 30000);
}

TEST(crash_is_a_kill)
{
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		ft_fault_load("gate.release:crash");
		ft_fault("gate.release");
		_exit(0);
	}
	int status = 0;
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status));
	CHECK_EQ(WTERMSIG(status), SIGKILL);
}

TEST(malformed_is_refused)
{
	CHECK_EQ(ft_fault_load("gate.mark"), -1);
	CHECK_EQ(ft_fault_load("gate.mark:explode"), -1);
	CHECK_EQ(ft_fault_load("gate.mark:delay="), -1);
	CHECK_EQ(ft_fault_load("gate.mark:delay=-5"), -1);
	CHECK_EQ(ft_fault_load("gate.mark:error:x"), -1);
	CHECK_EQ(ft_fault_load(":error"), -1);
	CHECK_EQ(ft_fault("gate.mark"), 0);
}

int main(void)
{
	RUN(inert_when_unset);
	RUN(error_fires_once_after_its_skips);
	RUN(delay_delays_once);
	RUN(crash_is_a_kill);
	RUN(malformed_is_refused);
	return check_report();
}
