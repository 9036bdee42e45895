/* The userfaultfd taken out of other processes, and what the kernel then says of their memory. Skips where it cannot. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hook/pagemap_scan.h"
#include "hook/scan.h"
#include "test/check.h"
#include "track/inject.h"
#include "track/tracker.h"

enum { PAGE = 4096 };

/* Pages written since the last question, which protects them again; -1: the kernel does not track all of it. */
static long written(pid_t pid, const char *at, size_t pages)
{
	struct page_region region[64];
	char path[32];
	snprintf(path, sizeof path, "/proc/%d/pagemap", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct pm_scan_arg ask = {
		.size = sizeof ask, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC, .start = (uintptr_t)at,
		.end = (uintptr_t)at + pages * PAGE, .vec = (uintptr_t)region, .vec_len = 64, .category_mask = PAGE_IS_WRITTEN,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED, .return_mask = PAGE_IS_WRITTEN,
	};
	long count = ioctl(fd, PAGEMAP_SCAN, &ask), total = 0;
	close(fd);
	for (long i = 0; i < count; i++)
		total += (long)((region[i].end - region[i].start) / PAGE);
	return count < 0 ? -1 : total;
}

static char *map_pages(size_t pages)
{
	char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		abort();
	memset(at, 1, pages * PAGE);
	return at;
}

static int descriptors(pid_t pid)
{
	char path[48];
	int count = 0;
	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
		char link[8];
		count += readlink(path, link, sizeof link) > 0;
	}
	return count;
}

/* A process that does `body` over and over, and ends with 0 when it is told to through `flags`. */
struct flags {
	volatile int stop, wrong, write;
	volatile uint64_t rounds;
};

static pid_t start(struct flags *flags, char *pages, void (*body)(struct flags *, char *))
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!flags->stop) {
		body(flags, pages);
		flags->rounds++;
	}
	_exit(flags->wrong);
}

/* Sleeps in a system call that the kernel restarts by itself, and must never be told of. */
static void sleep_well(struct flags *flags, char *pages)
{
	const struct timespec pause = { .tv_nsec = 3000000 };
	struct pollfd none = { .fd = -1 };
	if (nanosleep(&pause, NULL) != 0 || poll(&none, 1, 2) != 0)
		flags->wrong = 1;
	if (flags->write) {
		pages[5 * PAGE]++;
		flags->write = 0;
	}
}

static volatile sig_atomic_t signals;
static void count_signal(int number)
{
	(void)number;
	signals++;
}

/* In its own registers: any that changed is noticed. */
static void compute(struct flags *flags, char *pages)
{
	(void)pages;
	uint64_t a = 1, b = 2, c = 3, d = 4;
	double x = 1.5, y = 2.5;
	for (int i = 0; i < 20000; i++) {
		a = a * 6364136223846793005u + 1;
		b ^= a;
		c += b;
		d = d * 3 + c;
		x = x * 0.5 + 1;
		y = y * 0.25 + x;
	}
	static uint64_t want;
	static double want_y;
	uint64_t got = a ^ b ^ c ^ d;
	if (want == 0) {
		want = got;
		want_y = y;
	}
	if (got != want || y != want_y)
		flags->wrong = 1;
}

static struct flags *shared_flags(void)
{
	void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		abort();
	return at;
}

static int ended_well(pid_t pid, struct flags *flags)
{
	int status;
	flags->stop = 1;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(a_sleeper_gives_its_userfaultfd_and_sleeps_on)
{
	struct flags *flags = shared_flags();
	char *pages = map_pages(16);
	pid_t pid = start(flags, pages, sleep_well);
	while (flags->rounds < 2)
		usleep(1000);
	int before = descriptors(pid);
	for (int i = 0; i < 30; i++) {
		int fd = inject_userfaultfd(pid);
		CHECK(fd >= 0);
		CHECK_EQ(descriptors(pid), before);
		CHECK_EQ(track_negotiate(fd), 0);
		CHECK_EQ(track_register(fd, (uintptr_t)pages, (uintptr_t)pages + 16 * PAGE), 0);
		CHECK_EQ(written(pid, pages, 16), 16);
		CHECK_EQ(written(pid, pages, 16), 0);
		flags->write = 1;
		while (flags->write)
			usleep(500);
		CHECK_EQ(written(pid, pages, 16), 1);
		close(fd);
		CHECK_EQ(written(pid, pages, 16), -1);
	}
	CHECK(ended_well(pid, flags));
}

TEST(one_that_computes_under_signals_goes_on_as_it_was)
{
	struct flags *flags = shared_flags();
	signal(SIGUSR1, count_signal);
	pid_t pid = start(flags, NULL, compute);
	for (int i = 0; i < 60; i++) {
		kill(pid, SIGUSR1);
		int fd = inject_userfaultfd(pid);
		CHECK(fd >= 0);
		kill(pid, SIGUSR1);
		close(fd);
	}
	uint64_t rounds = flags->rounds;
	while (flags->rounds < rounds + 3)
		usleep(1000);
	CHECK(ended_well(pid, flags));
}

TEST(one_that_is_stopped_or_gone_is_left_alone)
{
	struct flags *flags = shared_flags();
	int status;
	pid_t pid = start(flags, map_pages(1), sleep_well);
	kill(pid, SIGSTOP);
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK_EQ(inject_userfaultfd(pid), -1);
	kill(pid, SIGCONT);
	uint64_t rounds = flags->rounds;
	for (int i = 0; i < 2000 && flags->rounds < rounds + 2; i++)
		usleep(1000);
	CHECK(ended_well(pid, flags));
	CHECK_EQ(inject_userfaultfd(pid), -1);
}

/*
 * What mremap() merges with a moved area is not tracked any more, but its pages keep their marks; when it is registered anew,
 * what was written in between would be called unwritten, now and ever after.
 */
TEST(marks_of_an_earlier_registration_do_not_count)
{
	char *from = map_pages(8), *place = map_pages(64), *to = place + 16 * PAGE;
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	CHECK_EQ(track_negotiate(fd), 0);
	munmap(place, 64 * PAGE);
	CHECK_EQ(track_register(fd, (uintptr_t)from, (uintptr_t)from + 8 * PAGE), 0);
	CHECK_EQ(written(getpid(), from, 8), 8);
	for (int page = 0; page < 4; page++)
		CHECK(mremap(from + page * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + page * PAGE) != MAP_FAILED);
	CHECK_EQ(track_register(fd, (uintptr_t)to, (uintptr_t)to + 4 * PAGE), 0);
	CHECK_EQ(written(getpid(), to, 4), 4);
	CHECK_EQ(written(getpid(), to, 4), 0);
	CHECK(mremap(from + 4 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 4 * PAGE) != MAP_FAILED);
	to[0] = 9;
	to[PAGE] = 9;
	CHECK_EQ(track_register(fd, (uintptr_t)to, (uintptr_t)to + 5 * PAGE), 0);
	CHECK(written(getpid(), to, 5) >= 3);
	to[0] = 10;
	CHECK_EQ(written(getpid(), to, 5), 1);
	close(fd);
}

enum { KEPT_PAGES = 64 };

/* Address space that nobody may use, and a part of it that is opened or shut: pages[0..16) open, [16..64) for later. */
static void open_and_shut(struct flags *flags, char *pages)
{
	usleep(1000);
	if (flags->write == 1 && (mprotect(pages + 16 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE) != 0 || memset(pages + 16 * PAGE, 2, PAGE) == NULL))
		flags->wrong = 1;
	if (flags->write == 2 && mprotect(pages, 8 * PAGE, PROT_NONE) != 0)
		flags->wrong = 1;
	flags->write = 0;
}

/* How many of `pages` pages from `at` are in the list; *whole: any of them has to be dumped whole. */
static size_t tracked_pages(const struct tracker *tracker, const char *at, size_t pages, bool *whole)
{
	size_t count = 0;
	*whole = false;
	for (size_t page = 0; page < pages; page++)
		for (size_t i = 0; i < tracker->process[0].areas; i++) {
			const struct area *area = &tracker->process[0].area[i];
			uint64_t here = (uintptr_t)at + page * PAGE;
			if (here < area->start || here >= area->end)
				continue;
			count++;
			*whole |= (area->flags & ~(uint32_t)AREA_WHOLE) == 0 && area->flags != 0;
		}
	return count;
}

static void do_as_told(struct flags *flags, int what)
{
	flags->write = what;
	while (flags->write != 0)
		usleep(500);
}

/* The dump that the hook would have been told of. */
static void as_if_dumped(struct tracker *tracker)
{
	for (size_t i = 0; i < tracker->process[0].areas; i++)
		tracker->process[0].area[i].flags = 0;
	tracker->doubt = false;
}

TEST(address_space_kept_for_later_is_tracked_when_it_is_opened)
{
	struct flags *flags = shared_flags();
	char *pages = map_pages(KEPT_PAGES), folder[] = "/tmp/track-test-XXXXXX";
	CHECK(mkdtemp(folder) != NULL);
	int images = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	madvise(pages + 16 * PAGE, (KEPT_PAGES - 16) * PAGE, MADV_DONTNEED);
	CHECK_EQ(mprotect(pages + 16 * PAGE, (KEPT_PAGES - 16) * PAGE, PROT_NONE), 0);
	pid_t pid = start(flags, pages, open_and_shut);
	while (flags->rounds < 2)
		usleep(1000);
	struct tracker tracker;
	bool whole;
	track_open(&tracker, TRACK_WP_ASYNC, false);
	CHECK_EQ(track_refresh(&tracker, &pid, 1, false, -1, images), 0);
	CHECK_EQ(tracked_pages(&tracker, pages, KEPT_PAGES, &whole), 16);
	as_if_dumped(&tracker);
	do_as_told(flags, 1);
	CHECK_EQ(track_refresh(&tracker, &pid, 1, false, -1, images), 0);
	CHECK_EQ(tracked_pages(&tracker, pages, 16, &whole), 16);
	CHECK(!whole);
	CHECK_EQ(tracked_pages(&tracker, pages + 16 * PAGE, 16, &whole), 16);
	CHECK(whole);
	CHECK_EQ(tracked_pages(&tracker, pages + 32 * PAGE, KEPT_PAGES - 32, &whole), 0);
	CHECK_EQ(written(pid, pages + 16 * PAGE, 16), 1);
	/* With pages in it: dumped whole in every epoch it would be dear. */
	as_if_dumped(&tracker);
	do_as_told(flags, 2);
	CHECK_EQ(track_refresh(&tracker, &pid, 1, false, -1, images), 0);
	CHECK_EQ(tracked_pages(&tracker, pages, KEPT_PAGES, &whole), 32);
	CHECK(!whole);
	track_close(&tracker);
	CHECK(ended_well(pid, flags));
	CHECK_EQ(unlinkat(images, AREAS_NAME, 0), 0);
	CHECK_EQ(rmdir(folder), 0);
	close(images);
}

/* Pages that the two scans of a dump would give to CRIU. */
static long told(int pagemap, int maps, const char *at, size_t pages, bool quickly)
{
	struct tracked_area area = { .area = { .start = (uintptr_t)at, .end = (uintptr_t)at + pages * PAGE } };
	long total = 0;
	scan_findings.count = scan_spans.count = 0;
	if (!(quickly ? scan_quickly(pagemap, maps, false, &area) : scan_plainly(pagemap, &area)))
		return -1;
	for (size_t i = area.first; i < area.first + area.count; i++)
		total += (long)((scan_findings.at[i].end - scan_findings.at[i].start) / PAGE);
	return total;
}

/* The quick scan leaves marks there, which the kernel calls swapped: they would be dumped as pages of zeros, and be such from then on. */
TEST(what_nobody_has_touched_is_not_dumped)
{
	enum { PAGES = 4096 };
	if (!track_probe_quick())
		return;
	char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	CHECK(at != MAP_FAILED && madvise(at, PAGES * PAGE, MADV_NOHUGEPAGE) == 0);
	CHECK(scan_prepare(true, track_probe_marker()));
	at[5 * PAGE] = 1;
	at[2000 * PAGE] = 1;
	CHECK_EQ(track_negotiate(fd), 0);
	CHECK_EQ(track_register(fd, (uintptr_t)at, (uintptr_t)at + PAGES * PAGE), 0);
	CHECK_EQ(told(pagemap, maps, at, PAGES, true), 2);
	CHECK_EQ(told(pagemap, maps, at, PAGES, true), 0);
	at[6 * PAGE] = 1;
	at[2000 * PAGE] = 2;
	CHECK(madvise(at + 5 * PAGE, PAGE, MADV_DONTNEED) == 0);
	CHECK_EQ(told(pagemap, maps, at, PAGES, true), 2);
	/* As after a dump that failed: everything that is there. */
	CHECK_EQ(told(pagemap, maps, at, PAGES, false), 2);
	munmap(at, PAGES * PAGE);
	close(fd);
	close(pagemap);
	close(maps);
}

/* As where the system's policy allows none: the probe must say so, and not believe the kernel's version. */
TEST(a_refused_userfaultfd_is_found_out_by_the_probe)
{
	struct sock_filter deny[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof deny / sizeof *deny, .filter = deny };
	pid_t child = fork();
	if (child == 0) {
		char why[TRACK_WHY_BYTES];
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
			_exit(2);
		_exit(track_probe(why, sizeof why) == EPERM && strstr(why, "no userfaultfd") != NULL ? 0 : 1);
	}
	int status = -1;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_EQ(status, 0);
}

int main(void)
{
	char why[TRACK_WHY_BYTES];
	int cannot = track_probe(why, sizeof why);
	if (cannot != 0) {
		printf("skipped: this kernel cannot track written pages: %s\n1 passed, 0 failed\n", why);
		return 0;
	}
	RUN(a_sleeper_gives_its_userfaultfd_and_sleeps_on);
	RUN(one_that_computes_under_signals_goes_on_as_it_was);
	RUN(one_that_is_stopped_or_gone_is_left_alone);
	RUN(marks_of_an_earlier_registration_do_not_count);
	RUN(address_space_kept_for_later_is_tracked_when_it_is_opened);
	RUN(what_nobody_has_touched_is_not_dumped);
	RUN(a_refused_userfaultfd_is_found_out_by_the_probe);
	return check_report();
}
