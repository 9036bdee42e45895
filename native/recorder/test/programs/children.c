/* Children that compute and report by pipe, and signals: one's own, a child's, an alarm. */
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "program.h"

static volatile sig_atomic_t alarms, users, ended;
static uint64_t hash;

static void on_signal(int number)
{
	if (number == SIGALRM)
		alarms++;
	else if (number == SIGCHLD)
		ended++;
	else
		users++;
}

static void run_child(uint64_t n)
{
	int fds[2], status = 0;
	uint64_t value = 0;
	MUST(pipe(fds) == 0);
	pid_t child = fork();
	if (child == 0) {
		value = mix(n, 11);
		_exit(write(fds[1], &value, sizeof value) == sizeof value ? 7 : 1);
	}
	MUST(child > 0);
	close(fds[1]);
	ssize_t got;
	while ((got = read(fds[0], &value, sizeof value)) < 0 && errno == EINTR)
		;
	MUST(got == sizeof value && value == mix(n, 11));
	close(fds[0]);
	pid_t waited;
	while ((waited = waitpid(child, &status, 0)) < 0 && errno == EINTR)
		;
	MUST(waited == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	hash = mix(hash, (uint64_t)child);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct itimerval often = {{0, 5000}, {0, 5000}};
	begin(argc, argv);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGCHLD, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (uint64_t n = 1; going_on(); n++) {
		if (n % 5 == 0)
			run_child(n);
		kill(getpid(), SIGUSR1);
		nap(500);
		hash = mix(hash, (uint64_t)alarms * 1000003 + (uint64_t)users * 1009 + (uint64_t)ended);
		say("hash", hash);
	}
	MUST(users > 0);
	return finish();
}
