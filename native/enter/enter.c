#include "enter/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define INIT_SOCKET "ftctl-init"

static int open_in(const char *directory, const char *name, int flags)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(path, flags | O_CLOEXEC);
}

int enter_toolkit_open(struct enter_toolkit *toolkit, const char *directory, const char *hook)
{
	*toolkit = (struct enter_toolkit){ -1, -1, -1, -1 };
	toolkit->loader = open_in(directory, "ld.so", O_RDONLY);
	toolkit->libraries = open_in(directory, "lib", O_RDONLY | O_DIRECTORY);
	toolkit->criu = open_in(directory, "criu", O_RDONLY);
	toolkit->hook = open(hook, O_RDONLY | O_CLOEXEC);
	if (toolkit->loader >= 0 && toolkit->libraries >= 0 && toolkit->criu >= 0 && toolkit->hook >= 0)
		return 0;
	int error = errno;
	enter_toolkit_close(toolkit);
	errno = error;
	return -1;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void enter_toolkit_close(struct enter_toolkit *toolkit)
{
	close_fd(&toolkit->loader);
	close_fd(&toolkit->libraries);
	close_fd(&toolkit->criu);
	close_fd(&toolkit->hook);
}

int enter_container_open(struct enter_container *container, pid_t init_pid)
{
	container->init_pid = init_pid;
	container->pidfd = (int)syscall(SYS_pidfd_open, init_pid, 0);
	return container->pidfd < 0 ? -1 : 0;
}

void enter_container_close(struct enter_container *container)
{
	close_fd(&container->pidfd);
}

bool enter_container_alive(const struct enter_container *container, int wait_ms)
{
	/* A pidfd is readable from the moment the process ends; signals still reach it as long as it is not reaped. */
	struct pollfd ended = { .fd = container->pidfd, .events = POLLIN };
	return poll(&ended, 1, wait_ms) == 0;
}

/* ---- in the child ---- */

/* The child says what went wrong by the pipe; a successful exec closes it without a word. */
struct failure {
	int error;
	char stage[32];
};

static _Noreturn void give_up(int report, const char *stage)
{
	struct failure failure = { .error = errno };
	snprintf(failure.stage, sizeof failure.stage, "%s", stage);
	ssize_t written = write(report, &failure, sizeof failure);
	_exit(written == (ssize_t)sizeof failure ? 126 : 127);
}

static bool shares(pid_t pid, const char *name)
{
	char path[64];
	struct stat ours, theirs;
	snprintf(path, sizeof path, "/proc/self/ns/%s", name);
	if (stat(path, &ours) != 0)
		return true; /* this kernel has no such namespaces */
	snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
	return stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

static int namespaces_of(pid_t pid)
{
	static const struct {
		const char *name;
		int flag;
	} kinds[] = {
		{ "user", CLONE_NEWUSER }, { "mnt", CLONE_NEWNS },   { "net", CLONE_NEWNET },
		{ "ipc", CLONE_NEWIPC },   { "uts", CLONE_NEWUTS },  { "pid", CLONE_NEWPID },
		{ "cgroup", CLONE_NEWCGROUP },
	};
	int flags = 0;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!shares(pid, kinds[i].name))
			flags |= kinds[i].flag;
	return flags;
}

static int open_of(pid_t pid, const char *what, int flags)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
	return open(path, flags | O_CLOEXEC);
}

/* A restored application has a time namespace of its own, in which its clocks went on from the dump's values. */
static void join_clocks(const struct enter_spawn *spawn, int report)
{
	if (spawn->time_from == 0 || shares(spawn->time_from, "time"))
		return;
	int fd = open_of(spawn->time_from, "ns/time", O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWTIME) != 0)
		give_up(report, "join-time");
	close(fd);
}

/* Moves the descriptors out of the way first, so that none is overwritten before it is moved. */
static void place_descriptors(const struct enter_spawn *spawn, int report)
{
	const int from[ENTER_END] = {
		[ENTER_LIBRARIES] = spawn->toolkit->libraries, [ENTER_CRIU] = spawn->toolkit->criu,
		[ENTER_HOOK] = spawn->toolkit->hook,	       [ENTER_IMAGES] = spawn->images,
		[ENTER_WORK] = spawn->work,		       [ENTER_KDAT] = spawn->kdat,
		[ENTER_SOCKET] = spawn->socket,		       [ENTER_STDIO] = spawn->stdio[0],
		[ENTER_STDIO + 1] = spawn->stdio[1],	       [ENTER_STDIO + 2] = spawn->stdio[2],
		[ENTER_AREAS] = spawn->areas,
	};
	int high[ENTER_END];
	for (int i = ENTER_LIBRARIES; i < ENTER_END; i++) {
		high[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, 64);
		if (from[i] >= 0 && high[i] < 0)
			give_up(report, "descriptors");
	}
	for (int i = ENTER_LIBRARIES; i < ENTER_END; i++)
		if (high[i] >= 0 && dup2(high[i], i) < 0)
			give_up(report, "descriptors");
}

/* 0 and 1 become /dev/null, 2 goes to the log directory's catch-all: what the loader itself has to say. */
static void place_standard(const struct enter_spawn *spawn, int report)
{
	int null = open("/dev/null", O_RDWR);
	int errors = openat(spawn->work, "criu.stderr", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (null < 0 || errors < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(errors, 2) < 0)
		give_up(report, "standard-descriptors");
}

enum { ARGUMENTS_MAX = 64 };

static void execute(const struct enter_spawn *spawn, int loader, int report)
{
	char *argv[ARGUMENTS_MAX] = {
		"criu", "--library-path", "/proc/self/fd/11", "--preload", "/proc/self/fd/13", "/proc/self/fd/12",
	};
	size_t count = 6;
	for (char *const *at = spawn->arguments; *at != NULL; at++) {
		if (count + 1 >= ARGUMENTS_MAX) {
			errno = E2BIG;
			give_up(report, "arguments");
		}
		argv[count++] = *at;
	}
	syscall(SYS_execveat, loader, "", argv, spawn->environment, AT_EMPTY_PATH);
	give_up(report, "exec");
}

/* Inside: every namespace is joined. Signals as a fresh program has them. */
static _Noreturn void inner(const struct enter_spawn *spawn, int loader, int report)
{
	if (chdir("/") != 0)
		give_up(report, "chdir");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		give_up(report, "parent-death-signal");
	struct sigaction action = { .sa_handler = SIG_DFL };
	for (int number = 1; number < NSIG; number++)
		(void)sigaction(number, &action, NULL); /* EINVAL for KILL and STOP */
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	execute(spawn, loader, report);
	_exit(127);
}

static int raise_pid(int fd, pid_t first_pid)
{
	char text[16];
	int length = snprintf(text, sizeof text, "%d", (int)first_pid);
	return write(fd, text, (size_t)length) == length ? 0 : -1;
}

/*
 * The first child joins the namespaces; a pid namespace takes effect for its children only, so that it forks
 * again. The pid counter is the one of the writer's pid namespace, so that another child must raise it.
 */
static _Noreturn void outer(const struct enter_spawn *spawn, int report)
{
	pid_t init_pid = spawn->container->init_pid;
	int last_pid = -1;
	if (spawn->first_pid > 0 && (last_pid = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC)) < 0)
		give_up(report, "ns_last_pid");
	if (spawn->join_cgroups && enter_cgroups(init_pid) != 0)
		give_up(report, "cgroups");
	join_clocks(spawn, report);
	place_standard(spawn, report);
	int loader = fcntl(spawn->toolkit->loader, F_DUPFD_CLOEXEC, 64);
	int safe_report = fcntl(report, F_DUPFD_CLOEXEC, 64);
	int safe_last_pid = last_pid < 0 ? -1 : fcntl(last_pid, F_DUPFD_CLOEXEC, 64);
	int safe_pidfd = fcntl(spawn->container->pidfd, F_DUPFD_CLOEXEC, 64);
	if (loader < 0 || safe_report < 0 || safe_pidfd < 0 || (last_pid >= 0 && safe_last_pid < 0))
		give_up(report, "descriptors");
	int flags = namespaces_of(init_pid);
	place_descriptors(spawn, safe_report);
	if (flags != 0 && setns(safe_pidfd, flags) != 0)
		give_up(safe_report, "setns");
	if (safe_last_pid >= 0) {
		pid_t raiser = fork();
		if (raiser == 0)
			_exit(raise_pid(safe_last_pid, spawn->first_pid) == 0 ? 0 : 1);
		int status = 0;
		if (raiser < 0 || waitpid(raiser, &status, 0) != raiser || status != 0)
			give_up(safe_report, "ns_last_pid");
	}
	pid_t child = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (child < 0)
		give_up(safe_report, "clone");
	if (child == 0)
		inner(spawn, loader, safe_report);
	if (write(safe_report, &child, sizeof child) != sizeof child)
		_exit(127);
	_exit(0);
}

/* ---- in the caller ---- */

/* Reads what the two children reported until both have closed the pipe. */
static int read_report(int fd, pid_t *child, struct failure *failure)
{
	bool failed = false;
	*child = -1;
	for (;;) {
		char room[sizeof *failure];
		ssize_t got = read(fd, room, sizeof room);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return failed ? -1 : 0;
		if (got == (ssize_t)sizeof *child) {
			memcpy(child, room, sizeof *child);
		} else if (got == (ssize_t)sizeof *failure) {
			memcpy(failure, room, sizeof *failure);
			failed = true;
		}
	}
}

pid_t enter_spawn(const struct enter_spawn *spawn, int *pidfd, const char **stage)
{
	static struct failure failure;
	int report[2]; /* packets: two children write to it */
	*stage = "fork";
	*pidfd = -1;
	failure = (struct failure){ 0 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) != 0)
		return -1;
	pid_t first = fork();
	if (first == 0)
		outer(spawn, report[1]);
	close(report[1]);
	if (first < 0) {
		close(report[0]);
		return -1;
	}
	pid_t child;
	int result = read_report(report[0], &child, &failure);
	close(report[0]);
	while (waitpid(first, NULL, 0) < 0 && errno == EINTR)
		;
	if (result != 0 || child < 0) {
		if (child > 0)
			while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
				;
		failure.stage[sizeof failure.stage - 1] = 0;
		*stage = result != 0 ? failure.stage : "enter";
		errno = result != 0 ? failure.error : ECHILD;
		return -1;
	}
	*pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	return child;
}

/* ---- ftinit ---- */

static int connect_here(pid_t init_pid)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, INIT_SOCKET, sizeof INIT_SOCKET - 1);
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + sizeof INIT_SOCKET;
	struct ucred peer;
	socklen_t peer_length = sizeof peer;
	int error = 0;
	if (connect(fd, (struct sockaddr *)&address, length) != 0)
		error = errno;
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_length) != 0)
		error = errno;
	else if (peer.pid != init_pid)
		error = EPERM; /* the application listens there in ftinit's place */
	if (error == 0)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

int enter_connect_init(const struct enter_container *container)
{
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int there = open_of(container->init_pid, "ns/net", O_RDONLY);
	int fd = -1;
	if (home >= 0 && there >= 0 && setns(there, CLONE_NEWNET) == 0) {
		fd = connect_here(container->init_pid);
		int error = errno;
		if (setns(home, CLONE_NEWNET) != 0)
			abort(); /* nothing may run on in the wrong network */
		errno = error;
	}
	int error = errno;
	close_fd(&home);
	close_fd(&there);
	errno = error;
	return fd;
}
