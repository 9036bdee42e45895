/*
 * Workers that serve their parent over socket pairs, each with its own clock, randomness and output; a pipe that all of them
 * write to; signals to them; and workers that end, are ended, are made again, and have a child of their own.
 */
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "program.h"

enum { WORKERS = 3, DIES_AFTER = 40 };

struct question {
	uint64_t number, value;
};
struct answer {
	uint64_t number, value, pid, users;
};
struct worker {
	pid_t pid;
	int line;
	uint64_t asked;
};

static struct worker workers[WORKERS];
static int everybodys[2];
static uint64_t hash;
static volatile sig_atomic_t users, ended;

static void on_signal(int number)
{
	if (number == SIGCHLD)
		ended++;
	else
		users++;
}

static bool read_all(int fd, void *out, size_t bytes)
{
	for (size_t at = 0; at < bytes;) {
		ssize_t got = read(fd, (char *)out + at, bytes - at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		at += (size_t)got;
	}
	return true;
}

static pid_t wait_for(pid_t child, int *status)
{
	pid_t waited;
	while ((waited = waitpid(child, status, 0)) < 0 && errno == EINTR)
		;
	return waited;
}

/* A worker's own child. */
static uint64_t have_computed(uint64_t value)
{
	int fds[2], status = 0;
	MUST(pipe(fds) == 0);
	pid_t child = fork();
	if (child == 0) {
		value = mix(value, (uint64_t)getpid());
		say("grandchild", value);
		_exit(write(fds[1], &value, sizeof value) == sizeof value ? 3 : 1);
	}
	close(fds[1]);
	MUST(child > 0 && read_all(fds[0], &value, sizeof value));
	close(fds[0]);
	MUST(wait_for(child, &status) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
	return mix(value, (uint64_t)child);
}

static void work(int line)
{
	struct question q;
	uint64_t mine = 0, random;
	while (read_all(line, &q, sizeof q)) {
		MUST(getrandom(&random, sizeof random, 0) == sizeof random);
		mine = mix(mine, mix(q.value, random ^ now_ms()));
		if (q.number % 16 == 7)
			mine = mix(mine, have_computed(mine));
		struct answer a = {q.number, mine, (uint64_t)getpid(), (uint64_t)users};
		say("worker", mine);
		MUST(write(everybodys[1], &mine, sizeof mine) == sizeof mine);
		MUST(write(line, &a, sizeof a) == sizeof a);
	}
	exit(failures ? 1 : 5);
}

static void employ(struct worker *w)
{
	int pair[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	w->pid = fork();
	if (w->pid == 0) {
		close(pair[0]);
		for (int i = 0; i < WORKERS; i++)
			if (workers[i].line > 0)
				close(workers[i].line);
		work(pair[1]);
	}
	MUST(w->pid > 0);
	close(pair[1]);
	w->line = pair[0];
	w->asked = 0;
}

/* Half of them end by themselves. */
static void dismiss(struct worker *w, bool kindly)
{
	int status = 0;
	if (!kindly)
		MUST(kill(w->pid, SIGKILL) == 0);
	close(w->line);
	MUST(wait_for(w->pid, &status) == w->pid);
	w->line = 0;
	MUST(kindly ? WIFEXITED(status) && WEXITSTATUS(status) == 5 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void ask_all(uint64_t n)
{
	for (int i = 0; i < WORKERS; i++) {
		struct question q = {++workers[i].asked, mix(n, (uint64_t)i)};
		if (n % 3 == 0)
			MUST(kill(workers[i].pid, SIGUSR1) == 0);
		MUST(write(workers[i].line, &q, sizeof q) == sizeof q);
	}
	for (int i = 0; i < WORKERS; i++) {
		struct answer a = {0};
		MUST(read_all(workers[i].line, &a, sizeof a));
		MUST(a.number == workers[i].asked && a.pid == (uint64_t)workers[i].pid);
		hash = mix(hash, a.value ^ a.users);
	}
	/* In the order in which they came to it. */
	for (int i = 0; i < WORKERS; i++) {
		uint64_t value = 0;
		MUST(read_all(everybodys[0], &value, sizeof value));
		hash = mix(hash, value);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	begin(argc, argv);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGCHLD, &action, NULL);
	MUST(pipe(everybodys) == 0);
	for (int i = 0; i < WORKERS; i++)
		employ(&workers[i]);
	for (uint64_t n = 1; going_on() && !failures; n++) {
		ask_all(n);
		hash = mix(hash, (uint64_t)ended);
		say("hash", hash);
		if (n % DIES_AFTER == 0) {
			struct worker *w = &workers[n / DIES_AFTER % WORKERS];
			dismiss(w, n / DIES_AFTER % 2 == 0);
			employ(w);
		}
		nap(300);
	}
	for (int i = 0; i < WORKERS; i++)
		dismiss(&workers[i], true);
	return finish();
}
