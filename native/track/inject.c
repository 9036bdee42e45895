#include "track/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hook/pagemap_scan.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif
#ifndef PTRACE_GETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#define PTRACE_SETSIGMASK 0x420b
#endif

#ifdef __x86_64__

enum {
	STOP_TRIES_MAX = 4000, TRY_NS = 50000, /* 200 ms for the thread to stop */
	RETURN_TRIES_MAX = 40000,              /* 2 s for two system calls that do not block; nothing can be undone before */
	ANSWER_MS_MAX = 3000,
	VDSO_BYTES_MAX = 65536, CODE_SEGMENT_64 = 0x33,
};
#define EVENT_STOP (PTRACE_EVENT_STOP << 16 | SIGTRAP << 8 | 0x7f)
#define SYSCALL_STOP ((SIGTRAP | 0x80) << 8 | 0x7f)

struct answer {
	int error;
};

static bool await_stop(pid_t pid, int tries, int *status)
{
	const struct timespec pause = { .tv_nsec = TRY_NS };
	for (int i = 0; i < tries; i++) {
		pid_t got = waitpid(pid, status, __WALL | WNOHANG);
		if (got == pid)
			return WIFSTOPPED(*status);
		if (got < 0 && errno != EINTR)
			return false;
		nanosleep(&pause, NULL);
	}
	errno = ETIMEDOUT;
	return false;
}

/* The place of a `syscall` instruction in the process's vDSO; 0: none. */
static uint64_t find_instruction(pid_t pid)
{
	static uint8_t code[VDSO_BYTES_MAX];
	char path[32], line[512];
	unsigned long start = 0, end = 0;
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(path, "re");
	if (maps == NULL)
		return 0;
	while (start == 0 && fgets(line, sizeof line, maps) != NULL)
		if (strstr(line, "[vdso]") != NULL && sscanf(line, "%lx-%lx", &start, &end) != 2)
			start = 0;
	fclose(maps);
	snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
	int fd = start == 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	size_t want = end - start < sizeof code ? end - start : sizeof code;
	ssize_t got = pread(fd, code, want, (off_t)start);
	close(fd);
	for (ssize_t i = 0; i + 1 < got; i++)
		if (code[i] == 0x0f && code[i + 1] == 0x05)
			return start + (uint64_t)i;
	return 0;
}

static int seize(pid_t pid)
{
	const long plain = PTRACE_O_TRACESYSGOOD;
	/* Docker's seccomp profile refuses userfaultfd; where we may not suspend it, that refusal is what we get. */
	if (ptrace(PTRACE_SEIZE, pid, NULL, plain | PTRACE_O_SUSPEND_SECCOMP) != 0 && ptrace(PTRACE_SEIZE, pid, NULL, plain) != 0)
		return -1;
	return ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 ? 0 : -1;
}

/* Until the stop that we asked for: signals that come first are delivered. One stopped by SIGSTOP is left alone. */
static int await_interrupt(pid_t pid, int tries)
{
	int status;
	for (int signals = 0; signals < 64; signals++) {
		if (!await_stop(pid, tries, &status))
			return -1;
		if (status == EVENT_STOP)
			return 0;
		errno = EBUSY;
		if (status >> 16 == PTRACE_EVENT_STOP)
			return -1;
		long signal = status >> 16 != 0 || status == SYSCALL_STOP ? 0 : WSTOPSIG(status);
		if (ptrace(PTRACE_CONT, pid, NULL, signal) != 0)
			return -1;
	}
	return -1;
}

/* Runs one system call in the thread; its stops are those at its entry and its exit. */
static int run_call(pid_t pid, const struct user_regs_struct *before, uint64_t instruction, long number, long first, long *result)
{
	struct user_regs_struct regs = *before;
	int status;
	regs.rip = instruction;
	regs.rax = (unsigned long)number;
	regs.orig_rax = (unsigned long)-1; /* not inside of a system call that is to be restarted */
	regs.rdi = (unsigned long)first;
	if (ptrace(PTRACE_SETREGS, pid, NULL, &regs) != 0)
		return -1;
	for (int stop = 0; stop < 2; stop++)
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) != 0 || !await_stop(pid, RETURN_TRIES_MAX, &status) || status != SYSCALL_STOP)
			return -1;
	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0)
		return -1;
	*result = (long)regs.rax;
	return 0;
}

/* With the thread stopped: the descriptor, and closed in the process. */
static int create_and_take(pid_t pid, const struct user_regs_struct *regs, uint64_t instruction)
{
	long made, closed;
	if (run_call(pid, regs, instruction, SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY, &made) != 0)
		return -1;
	if (made < 0) {
		errno = (int)-made;
		return -1;
	}
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)made, 0);
	int error = errno;
	if (pidfd >= 0)
		close(pidfd);
	if (run_call(pid, regs, instruction, SYS_close, made, &closed) != 0)
		return -1;
	errno = error;
	return fd;
}

/*
 * A system call that was interrupted by the stop is restarted by the kernel on the way out of a stop of the kind that
 * PTRACE_INTERRUPT makes, and of no other. So the registers are given back in one of those.
 */
static int give_back(pid_t pid, struct user_regs_struct *regs, bool ran)
{
	if (ran && (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0 || ptrace(PTRACE_CONT, pid, NULL, NULL) != 0 ||
		    await_interrupt(pid, RETURN_TRIES_MAX) != 0))
		return -1;
	return ptrace(PTRACE_SETREGS, pid, NULL, regs) == 0 ? 0 : -1;
}

static int inject(pid_t pid)
{
	struct user_regs_struct regs;
	uint64_t mask, all = ~0ull;
	int fd = -1, error;
	uint64_t instruction = find_instruction(pid);
	if (instruction == 0) {
		errno = ENOSYS;
		return -1;
	}
	if (seize(pid) != 0)
		return -1;
	if (await_interrupt(pid, STOP_TRIES_MAX) != 0)
		return -1; /* our end lets go of it */
	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0 && ptrace(PTRACE_GETSIGMASK, pid, sizeof mask, &mask) == 0) {
		errno = ENOSYS;
		bool ran = regs.cs == CODE_SEGMENT_64 && ptrace(PTRACE_SETSIGMASK, pid, sizeof all, &all) == 0;
		if (ran)
			fd = create_and_take(pid, &regs, instruction);
		error = errno;
		if (give_back(pid, &regs, ran) != 0 || (ran && ptrace(PTRACE_SETSIGMASK, pid, sizeof mask, &mask) != 0))
			error = errno;
		errno = error;
	}
	error = errno;
	(void)ptrace(PTRACE_DETACH, pid, NULL, NULL); /* fails only if it is dead */
	errno = error;
	return fd;
}

/* ---- the process that does it ---- */

static void send_answer(int socket, int fd, int error)
{
	struct answer answer = { .error = fd < 0 ? error : 0 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { &answer, sizeof answer };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(header), &fd, sizeof fd);
	}
	(void)sendmsg(socket, &message, MSG_NOSIGNAL); /* nobody waits any more: the descriptor ends with us */
}

static int receive_answer(int socket)
{
	struct answer answer = { .error = ECHILD };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { &answer, sizeof answer };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct pollfd ready = { .fd = socket, .events = POLLIN };
	int count, fd = -1;
	do
		count = poll(&ready, 1, ANSWER_MS_MAX);
	while (count < 0 && errno == EINTR);
	if (count <= 0)
		answer.error = ETIMEDOUT;
	else if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != (ssize_t)sizeof answer)
		answer.error = ECHILD;
	struct cmsghdr *header = count > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (header != NULL && header->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(header), sizeof fd);
	errno = fd < 0 && answer.error == 0 ? EPROTO : answer.error;
	return fd;
}

static void run_child(int socket, pid_t pid)
{
	sigset_t all;
	(void)setsid(); /* what is sent to ftdump's group is not for us */
	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL);
	int fd = inject(pid);
	send_answer(socket, fd, errno);
	_exit(0);
}

int inject_userfaultfd(pid_t pid)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -1;
	pid_t child = fork();
	if (child == 0)
		run_child(pair[1], pid);
	int error = errno;
	close(pair[1]);
	if (child < 0) {
		close(pair[0]);
		errno = error;
		return -1;
	}
	int fd = receive_answer(pair[0]);
	error = errno;
	close(pair[0]);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		; /* every wait of its own is bounded */
	errno = error;
	return fd;
}

#else

int inject_userfaultfd(pid_t pid)
{
	(void)pid;
	errno = ENOSYS;
	return -1;
}

#endif
