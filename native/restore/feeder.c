#include "restore/feeder.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dump/clock.h"
#include "line/line.h"
#include "pages/lazy.h"

enum { START_US_MAX = 10000000 };

/* Beside us. */
static int program_path(char out[PATH_MAX])
{
	ssize_t length = readlink("/proc/self/exe", out, PATH_MAX - 16);
	if (length <= 0)
		return -1;
	out[length] = 0;
	char *slash = strrchr(out, '/');
	if (slash == NULL)
		return -1;
	strcpy(slash + 1, "ftfeed");
	return 0;
}

static _Noreturn void become(const char *images, const char *log_path, pid_t init_pid, int control, int answer)
{
	char program[PATH_MAX], work[PATH_MAX], pid[16];
	/* It is nobody's child: it outlives us. */
	pid_t child = fork();
	if (child != 0)
		_exit(child < 0);
	snprintf(pid, sizeof pid, "%d", (int)init_pid);
	if (program_path(program) != 0 || strlen(log_path) >= sizeof work || dup2(control, STDIN_FILENO) < 0 || dup2(answer, STDOUT_FILENO) < 0)
		_exit(1);
	strcpy(work, log_path);
	char *const arguments[] = { program, "--init-pid", pid, "--images", (char *)(uintptr_t)images, "--work", dirname(work), NULL };
	execv(program, arguments);
	_exit(1);
}

/* Its one line. */
static int read_answer(int fd, struct feeder *feeder, char *detail, size_t size)
{
	char text[LINE_BYTES_MAX];
	size_t have = 0;
	uint64_t deadline = clock_us() + START_US_MAX;
	struct line line;
	uint64_t pid;
	while (have + 1 < sizeof text && memchr(text, '\n', have) == NULL) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		int count = poll(&ready, 1, clock_left_ms(deadline));
		if (count < 0 && errno == EINTR)
			continue;
		ssize_t got = count <= 0 ? 0 : read(fd, text + have, sizeof text - 1 - have);
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	text[have] = 0;
	text[strcspn(text, "\n")] = 0;
	if (line_parse(text, strlen(text), &line) != 0) {
		snprintf(detail, size, "ftfeed said nothing of use");
		return -1;
	}
	if (strcmp(line.verb, "ok") == 0 && line_get_u64(&line, "pages", &feeder->pages) == 0 && line_get_u64(&line, "pid", &pid) == 0) {
		feeder->pid = (pid_t)pid;
		return 0;
	}
	char why[512];
	if (line_get_text(&line, "detail", why, sizeof why) != 0)
		strcpy(why, "no reason given");
	snprintf(detail, size, "ftfeed: %s", why);
	return -1;
}

int feeder_start(struct feeder *feeder, int images, const char *images_path, const char *log_path, pid_t init_pid, char *detail, size_t size)
{
	int control[2], answer[2], status;
	*feeder = (struct feeder){ .control = -1 };
	if (faccessat(images, LAZY_LIST_NAME, F_OK, 0) != 0) {
		if (errno == ENOENT)
			return 1;
		snprintf(detail, size, "%s: %s", LAZY_LIST_NAME, strerror(errno));
		return -1;
	}
	snprintf(detail, size, "ftfeed cannot be started");
	if (pipe2(control, O_CLOEXEC) != 0)
		return -1;
	if (pipe2(answer, O_CLOEXEC) != 0) {
		close(control[0]);
		close(control[1]);
		return -1;
	}
	pid_t child = fork();
	if (child == 0)
		become(images_path, log_path, init_pid, control[0], answer[1]);
	close(control[0]);
	close(answer[1]);
	feeder->control = control[1];
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	int result = child < 0 ? -1 : read_answer(answer[0], feeder, detail, size);
	close(answer[0]);
	if (result != 0)
		feeder_release(feeder);
	return result;
}

void feeder_release(struct feeder *feeder)
{
	if (feeder->control >= 0)
		close(feeder->control);
	feeder->control = -1;
}
