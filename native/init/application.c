#include "init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXEC_WAIT_MS = 10000, PRELOAD_BYTES_MAX = 4096 };

/* The kernel's default dispositions and an empty mask, as Docker would have given the application. */
static void restore_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	for (int number = 1; number <= SIGRTMAX; number++)
		(void)sigaction(number, &action, NULL); /* EINVAL for KILL, STOP and the two of libc */
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Only the application's environment is changed, and not the container's: `docker inspect` shows what was given, and
 * `docker exec` is not recorded. What the container preloads itself comes after.
 */
static bool recorded(void)
{
	static char preload[PRELOAD_BYTES_MAX];
	const char *own = getenv("LD_PRELOAD");
	int length = snprintf(preload, sizeof preload, own == NULL ? "%s" : "%s:%s", "/.ftctl/libftrec.so", own);
	return length > 0 && (size_t)length < sizeof preload && setenv("LD_PRELOAD", preload, 1) == 0 &&
	       setenv("FTREC_LOG", "/.ftctl/log/events", 1) == 0 && setenv("FTREC_LIVE", "ftctl-live", 1) == 0;
}

static void become(char *const *command, bool record, int failure)
{
	/* ENOSYS on kernels before 5.11 does no harm: every descriptor of ftinit's is close-on-exec already. */
	(void)syscall(SYS_close_range, 3U, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
	/* As PID 1 of a stock container it would get its orphans: they stay in its tree, which is what is dumped. */
	if (setsid() >= 0 && prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0 && (!record || recorded())) {
		restore_signals();
		execvp(command[0], command);
	}
	int code = errno;
	ssize_t written = write(failure, &code, sizeof(code));
	_exit(written == (ssize_t)sizeof(code) ? 127 : 126);
}

int application_start(char *const *command, bool record, pid_t *pid)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	pid_t child = fork();
	if (child < 0) {
		int code = errno;
		close(ends[0]);
		close(ends[1]);
		errno = code;
		return -1;
	}
	if (child == 0)
		become(command, record, ends[1]);
	close(ends[1]);

	/* The pipe closes without a word when the command was executed. */
	int code = 0;
	struct pollfd wait = { .fd = ends[0], .events = POLLIN };
	int ready;
	do
		ready = poll(&wait, 1, EXEC_WAIT_MS);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0) {
		code = ETIMEDOUT;
		kill(child, SIGKILL);
	} else if (read(ends[0], &code, sizeof(code)) != (ssize_t)sizeof(code)) {
		code = 0;
	}
	close(ends[0]);
	if (code != 0) {
		errno = code;
		return -1;
	}
	*pid = child;
	return 0;
}

int application_is_child(pid_t pid)
{
	siginfo_t info = { 0 };
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
}
