/*
 * Changes what CRIU reads of a process before a late freeze (hook/late.h), a thousand times a second, at random: flags and size
 * of areas, descriptors, threads, its name, timers. Remembers in its memory what it has done, and looks each round whether it
 * is so: a checkpoint whose parts are of different moments makes a difference. Prints the rounds.
 *
 *   fidget [seed [kind]]     a kind of change alone: flags, descriptors, size, threads, name, timers
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 100, FDS = 8, TIMERS = 4, THREADS = 4, PAGE = 4096, FILE_PAGES_MAX = 64, AREA_BYTES = 64 * PAGE, KINDS = 6 };
static const char *const kinds[KINDS] = {"flags", "descriptors", "size", "threads", "name", "timers"};

static struct {
	bool open[FDS], timed[TIMERS], running[THREADS], kept_from_children;
	timer_t timer[TIMERS];
	pthread_t thread[THREADS];
	bool stop[THREADS];
	off_t file_size;
	char name[16];
} is;
static int file = -1, source = -1;
static char *area;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	_exit(1);
}

static void *idle(void *number)
{
	bool *stop = number;
	pthread_mutex_lock(&lock);
	while (!*stop)
		pthread_cond_wait(&told, &lock);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void change_thread(int i)
{
	if (!is.running[i]) {
		is.stop[i] = false;
		if (pthread_create(&is.thread[i], NULL, idle, &is.stop[i]) != 0)
			wrong("no thread");
	} else {
		pthread_mutex_lock(&lock);
		is.stop[i] = true;
		pthread_cond_broadcast(&told);
		pthread_mutex_unlock(&lock);
		pthread_join(is.thread[i], NULL);
	}
	is.running[i] = !is.running[i];
}

static void change_timer(int i)
{
	struct sigevent quiet = { .sigev_notify = SIGEV_NONE };
	if (is.timed[i] ? timer_delete(is.timer[i]) : timer_create(CLOCK_MONOTONIC, &quiet, &is.timer[i]))
		wrong("timer %d", i);
	is.timed[i] = !is.timed[i];
}

static void change(unsigned kind, int i)
{
	switch (kind) {
	case 0:
		if (madvise(area, AREA_BYTES, is.kept_from_children ? MADV_DOFORK : MADV_DONTFORK) != 0)
			wrong("madvise");
		is.kept_from_children = !is.kept_from_children;
		break;
	case 1:
		i %= FDS;
		if (is.open[i] ? close(FIRST_FD + i) != 0 : dup2(source, FIRST_FD + i) < 0)
			wrong("descriptor %d", i);
		is.open[i] = !is.open[i];
		break;
	case 2:
		is.file_size = (1 + i % FILE_PAGES_MAX) * PAGE;
		if (ftruncate(file, is.file_size) != 0)
			wrong("ftruncate");
		break;
	case 3:
		change_thread(i % THREADS);
		break;
	case 4:
		snprintf(is.name, sizeof is.name, "fidget %d", i % 1000);
		prctl(PR_SET_NAME, is.name);
		break;
	case 5:
		change_timer(i % TIMERS);
		break;
	}
}

static bool area_has_flag(void)
{
	char line[512], from[32];
	bool inside = false, found = false;
	FILE *smaps = fopen("/proc/self/smaps", "re");
	if (smaps == NULL)
		wrong("smaps");
	snprintf(from, sizeof from, "%lx-", (unsigned long)area);
	while (fgets(line, sizeof line, smaps) != NULL) {
		if (strncmp(line, from, strlen(from)) == 0)
			inside = true;
		if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			found = strstr(line, " dc") != NULL;
			break;
		}
	}
	fclose(smaps);
	return found;
}

static int threads_now(void)
{
	struct stat folder;
	if (stat("/proc/self/task", &folder) != 0)
		wrong("task");
	return (int)folder.st_nlink - 2;
}

static void look(void)
{
	struct stat now;
	char name[16];
	int threads = 1;
	struct itimerspec left;
	/* Twice: a checkpoint amid the first reading puts two lists together. What is wrong stays so. */
	if (area_has_flag() != is.kept_from_children && area_has_flag() != is.kept_from_children)
		wrong("the area's flags");
	for (int i = 0; i < FDS; i++)
		if ((fcntl(FIRST_FD + i, F_GETFD) >= 0) != is.open[i])
			wrong("descriptor %d", i);
	if (fstat(file, &now) != 0 || now.st_size != is.file_size)
		wrong("the file has %lld bytes", (long long)now.st_size);
	if (prctl(PR_GET_NAME, name) != 0 || strcmp(name, is.name) != 0)
		wrong("the name is %s", name);
	for (int i = 0; i < TIMERS; i++)
		if (is.timed[i] && timer_gettime(is.timer[i], &left) != 0)
			wrong("timer %d", i);
	for (int i = 0; i < THREADS; i++)
		threads += is.running[i];
	if (threads_now() != threads)
		wrong("%d threads", threads_now());
}

static unsigned kind_named(const char *name)
{
	for (unsigned i = 0; i < KINDS; i++)
		if (strcmp(kinds[i], name) == 0)
			return i;
	wrong("no kind %s", name);
}

int main(int argc, char **argv)
{
	unsigned alone = argc > 2 ? kind_named(argv[2]) : KINDS;
	unsigned random = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
	source = open("/dev/null", O_RDONLY | O_CLOEXEC);
	file = memfd_create("fidget", MFD_CLOEXEC);
	area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	is.file_size = PAGE;
	if (source < 0 || file < 0 || area == MAP_FAILED || ftruncate(file, is.file_size) != 0 ||
	    mmap(NULL, FILE_PAGES_MAX * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED)
		wrong("start");
	prctl(PR_GET_NAME, is.name);
	for (long round = 1;; round++) {
		struct timespec rest = { .tv_nsec = 700000 };
		random = random * 1664525u + 1013904223u;
		change(alone < KINDS ? alone : random / 16 % KINDS, (int)(random >> 12));
		nanosleep(&rest, NULL);
		look();
		printf("%ld\n", round);
		fflush(stdout);
	}
}
