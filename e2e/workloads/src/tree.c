/*
 * A process tree whose every reply proves that pipes, shared memory and private memory belong to one instant.
 * `step <value>`: the parent counts, puts the value into anonymous shared memory and tells the first child by a pipe;
 * that child counts, checks, folds the value into POSIX shared memory and tells the second child by a pipe; that one
 * counts, checks, and tells the parent by a pipe. Reply `ok <count> <sum>`, sum being the fold of all values so far
 * (FNV-1a), the same in all places; or `fail …` with what disagrees. `pids` answers `ok <parent> <first> <second>`.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SHARED_NAME "/ft-tree"

struct message {
	uint64_t count;
	uint64_t sum;
};

/* Each side writes its own area, so a torn checkpoint shows as a difference. */
struct shared {
	uint64_t count;
	uint64_t value;
	uint64_t sum;
};

static struct shared *anonymous_area; /* written by the parent */
static struct shared *posix_area;     /* written by the first child */
static int to_first, from_second;
static pid_t first, second;
static uint64_t count, sum;

static uint64_t fold(uint64_t before, uint64_t value)
{
	for (int i = 0; i < 8; i++) before = (before ^ ((value >> (8 * i)) & 0xff)) * 1099511628211ULL;
	return before;
}

static int take(int fd, struct message *message)
{
	size_t got_bytes = 0;
	while (got_bytes < sizeof *message) {
		ssize_t n = read(fd, (char *)message + got_bytes, sizeof *message - got_bytes);
		if (n == 0) return 0;
		if (n < 0 && errno != EINTR) return 0;
		if (n > 0) got_bytes += (size_t)n;
	}
	return 1;
}

static int give(int fd, const struct message *message)
{
	ssize_t n;
	do {
		n = write(fd, message, sizeof *message); /* below PIPE_BUF: whole or not at all */
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof *message;
}

/* Says nothing is right by a count that cannot be. */
static const struct message disagreement = {.count = UINT64_MAX};

static _Noreturn void first_child(int in, int out)
{
	struct message message;
	while (take(in, &message)) {
		count++;
		sum = fold(sum, anonymous_area->value);
		int agrees = message.count == count && anonymous_area->count == count &&
			     posix_area->count == count - 1 && message.sum == sum;
		*posix_area = (struct shared){.count = count, .value = anonymous_area->value, .sum = sum};
		if (!give(out, agrees ? &message : &disagreement)) break;
	}
	_exit(0);
}

static _Noreturn void second_child(int in, int out)
{
	struct message message;
	while (take(in, &message)) {
		count++;
		sum = fold(sum, posix_area->value);
		int agrees = message.count == count && posix_area->count == count && posix_area->sum == sum &&
			     anonymous_area->value == posix_area->value && message.sum == sum;
		if (!give(out, agrees ? &message : &disagreement)) break;
	}
	_exit(0);
}

static size_t step(const char *argument, char *reply, size_t reply_bytes_max)
{
	uint64_t value = strtoull(argument, NULL, 10);
	count++;
	sum = fold(sum, value);
	*anonymous_area = (struct shared){.count = count, .value = value, .sum = sum};
	struct message message = {.count = count, .sum = sum};
	struct message answer = {0};
	if (!give(to_first, &message) || !take(from_second, &answer))
		return reply_text(reply, reply_bytes_max, "fail child-gone errno=%d", errno);
	if (answer.count != count || answer.sum != sum || posix_area->count != count || posix_area->sum != sum)
		return reply_text(reply, reply_bytes_max, "fail disagree count=%llu child=%llu posix=%llu",
				  (unsigned long long)count, (unsigned long long)answer.count,
				  (unsigned long long)posix_area->count);
	return reply_text(reply, reply_bytes_max, "ok %llu %016llx", (unsigned long long)count,
			  (unsigned long long)sum);
}

static size_t answer(struct connection *connection, char *line, char *reply, size_t reply_bytes_max)
{
	connection->received++;
	if (strncmp(line, "step ", 5) == 0) return step(line + 5, reply, reply_bytes_max);
	if (strcmp(line, "pids") == 0)
		return reply_text(reply, reply_bytes_max, "ok %d %d %d", (int)getpid(), (int)first, (int)second);
	return reply_text(reply, reply_bytes_max, "fail usage");
}

static struct shared *map_area(int fd)
{
	int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
	void *area = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, flags, fd, 0);
	if (area == MAP_FAILED) die("mmap");
	return area;
}

static void make_areas(void)
{
	anonymous_area = map_area(-1);
	int fd = shm_open(SHARED_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0) die("shm_open");
	if (ftruncate(fd, sizeof(struct shared)) < 0) die("ftruncate");
	posix_area = map_area(fd);
	close(fd);
}

/* Starts a child that dies with its parent and keeps only its own two ends. */
static pid_t start(void (*child)(int, int), int in, int out, const int *others, size_t others_count)
{
	pid_t pid = fork();
	if (pid < 0) die("fork");
	if (pid > 0) return pid;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) die("prctl");
	for (size_t i = 0; i < others_count; i++) close(others[i]);
	child(in, out);
	_exit(0);
}

int main(int argc, char **argv)
{
	uint16_t port = port_argument(argc, argv);
	int a[2], b[2], c[2]; /* parent → first → second → parent */
	if (pipe(a) < 0 || pipe(b) < 0 || pipe(c) < 0) die("pipe");
	make_areas();
	first = start(first_child, a[0], b[1], (int[]){a[1], b[0], c[0], c[1]}, 4);
	second = start(second_child, b[0], c[1], (int[]){a[0], a[1], b[1], c[0]}, 4);
	close(a[0]), close(b[0]), close(b[1]), close(c[1]);
	to_first = a[1];
	from_second = c[0];
	serve(port, answer);
}
