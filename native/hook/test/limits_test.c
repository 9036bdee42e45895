/* The limits of another user's process are read right without CAP_SYS_RESOURCE, and still cannot be set. */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect(int condition, const char *what)
{
	if (condition) return;
	fprintf(stderr, "limits-test: %s (%s)\n", what, strerror(errno));
	exit(1);
}

static void drop_sys_resource(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	expect(syscall(SYS_capget, &header, data) == 0, "capget");
	data[0].effective &= ~(1u << CAP_SYS_RESOURCE);
	data[0].permitted &= ~(1u << CAP_SYS_RESOURCE);
	expect(syscall(SYS_capset, &header, data) == 0, "capset");
}

static int tell;

/* Tells it himself: a signal that comes before pause() would not wake from it. */
static void take_fewer_files(int number)
{
	const struct rlimit64 fewer = { .rlim_cur = 77, .rlim_max = 88 };
	(void)number;
	if (setrlimit64(RLIMIT_NOFILE, &fewer) != 0 || write(tell, "r", 1) != 1)
		_exit(1);
}

static pid_t start_stranger(const struct rlimit64 *files, const struct rlimit64 *core, int *told)
{
	int ready[2];
	expect(pipe(ready) == 0, "pipe");
	pid_t pid = fork();
	expect(pid >= 0, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		expect(setrlimit64(RLIMIT_NOFILE, files) == 0 && setrlimit64(RLIMIT_CORE, core) == 0, "setrlimit");
		expect(setgid(65534) == 0 && setuid(65534) == 0, "setuid");
		tell = ready[1];
		signal(SIGUSR1, take_fewer_files);
		expect(write(ready[1], "r", 1) == 1, "write");
		for (;;) pause();
	}
	char byte;
	expect(read(ready[0], &byte, 1) == 1, "the stranger starts");
	*told = ready[0];
	return pid;
}

int main(void)
{
	if (geteuid() != 0) {
		puts("limits-test: skipped: not root");
		return 0;
	}
	struct rlimit64 files = { .rlim_cur = 123, .rlim_max = 456 }, core = { 0, 0 }, own, found;
	int told;
	char byte;
	pid_t pid = start_stranger(&files, &core, &told);
	drop_sys_resource();

	expect(syscall(SYS_prlimit64, pid, RLIMIT_NOFILE, NULL, &found) == 0, "read the limit of files");
	expect(found.rlim_cur == 123 && found.rlim_max == 456, "the limit of files is right");
	expect(syscall(SYS_prlimit64, pid, RLIMIT_CORE, NULL, &found) == 0, "read the limit of cores");
	expect(found.rlim_cur == 0 && found.rlim_max == 0, "the limit of cores is right");
	/* The child has ours where it set none; among them is one without a limit. */
	for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
		if (resource == RLIMIT_NOFILE || resource == RLIMIT_CORE) continue;
		expect(getrlimit64(resource, &own) == 0, "getrlimit");
		expect(syscall(SYS_prlimit64, pid, resource, NULL, &found) == 0, "read a limit");
		expect(found.rlim_cur == own.rlim_cur && found.rlim_max == own.rlim_max, "a limit is right");
	}

	/* A series is answered from one reading, and the next series from another. */
	expect(kill(pid, SIGUSR1) == 0 && read(told, &byte, 1) == 1, "fewer files");
	expect(syscall(SYS_prlimit64, pid, RLIMIT_CPU, NULL, &found) == 0, "the first of a series");
	expect(syscall(SYS_prlimit64, pid, RLIMIT_NOFILE, NULL, &found) == 0, "read the limit of files again");
	expect(found.rlim_cur == 77 && found.rlim_max == 88, "the limit of files is the new one");
	/* Another process's limits are its own. */
	pid_t second = start_stranger(&files, &core, &told);
	expect(syscall(SYS_prlimit64, second, RLIMIT_NOFILE, NULL, &found) == 0, "read another's limit of files");
	expect(found.rlim_cur == 123 && found.rlim_max == 456, "another's limit of files is right");
	expect(kill(second, SIGKILL) == 0 && waitpid(second, NULL, 0) == second, "end the second stranger");

	expect(syscall(SYS_prlimit64, pid, RLIMIT_NOFILE, &files, NULL) == -1 && errno == EPERM, "may not set");
	expect(syscall(SYS_prlimit64, pid, 99, NULL, &found) == -1, "no such limit");
	expect(syscall(SYS_getpid) == getpid(), "other calls pass through");

	expect(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid, "end the stranger");
	puts("limits-test: ok");
	return 0;
}
