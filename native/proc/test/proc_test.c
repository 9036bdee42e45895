/* Reading a text of unknown size. */
#include "proc/proc.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/check.h"

TEST(reads_all_of_it)
{
	char text[8192], pid[32];
	ssize_t length = proc_text("/proc/self/status", text, sizeof text);
	CHECK(length > 0);
	CHECK_EQ(strlen(text), length);
	snprintf(pid, sizeof pid, "\nPid:\t%d\n", (int)getpid());
	CHECK(strstr(text, pid) != NULL);
}

TEST(ends_what_does_not_fit)
{
	char text[16];
	memset(text, 'x', sizeof text);
	CHECK_EQ(proc_text("/proc/self/status", text, 9), 8);
	CHECK_EQ(strlen(text), 8);
	CHECK_EQ(text[9], 'x');
}

TEST(says_that_there_is_nothing)
{
	char text[16];
	CHECK_EQ(proc_text("/proc/self/nothing", text, sizeof text), -1);
	CHECK_EQ(errno, ENOENT);
}

/* Opened through a zombie's own folder: it can be opened, but it has no memory any more. */
TEST(a_process_that_has_ended_has_no_memory_map)
{
	char path[64], text[4096];
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	siginfo_t info;
	CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	snprintf(path, sizeof path, "/proc/%d/maps", (int)child);
	CHECK(proc_text(path, text, sizeof text) <= 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK_EQ(proc_text(path, text, sizeof text), -1);
}

int main(void)
{
	RUN(reads_all_of_it);
	RUN(ends_what_does_not_fit);
	RUN(says_that_there_is_nothing);
	RUN(a_process_that_has_ended_has_no_memory_map);
	return check_report();
}
