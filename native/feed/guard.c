#include "feed/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOK_US = 5000 };

void guard_harden(void)
{
	sigset_t all;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, "-1000", 5); /* where it may not, it is a victim as others are */
	close(fd);
}

pid_t guard_split(int *pidfd)
{
	*pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (*pidfd < 0)
		return -1;
	return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
}

/* By looks, not by a clock: while this host stands still, neither of the two goes on. */
int guard_watch(pid_t feeder, const _Atomic uint64_t *turns, unsigned looks_max, bool *hung)
{
	uint64_t seen = *turns;
	int status = 0;
	*hung = false;
	for (unsigned looks = 0; !*hung;) {
		pid_t ended = waitpid(feeder, &status, WNOHANG);
		if (ended == feeder)
			return status;
		usleep(LOOK_US);
		uint64_t now = *turns;
		looks = now == seen ? looks + 1 : 0;
		seen = now;
		*hung = looks >= looks_max;
	}
	(void)kill(feeder, SIGKILL); /* our own child, not waited for: it cannot be another */
	while (waitpid(feeder, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* Inside: of the whole namespace only the first process and this one are spared. */
static _Noreturn void kill_all(void)
{
	enum { ROUND_US = 500 };
	while (kill(-1, SIGKILL) == 0 || errno != ESRCH)
		usleep(ROUND_US);
	_exit(0);
}

/* A pid namespace is joined by children only. */
static _Noreturn void enter_and_kill(int pid_namespace)
{
	int status = 0;
	if (setns(pid_namespace, CLONE_NEWPID) != 0)
		_exit(errno < 255 ? errno : 255);
	pid_t inside = fork();
	if (inside == 0)
		kill_all();
	/* ENOMEM: the namespace's first process has ended, and the kernel has killed the rest. */
	if (inside < 0)
		_exit(errno == ENOMEM ? 0 : errno);
	while (waitpid(inside, &status, 0) < 0 && errno == EINTR)
		;
	_exit(0); /* killed with its namespace, at worst */
}

int guard_end_application(int pid_namespace)
{
	int status = 0;
	pid_t child = fork();
	if (child == 0)
		enter_and_kill(pid_namespace);
	if (child < 0)
		return -1;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
	return errno == 0 ? 0 : -1;
}
