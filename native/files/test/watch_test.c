/*
 * What the kernel tells against what is there. A child with many threads changes files at random in every way that is known, and is
 * stopped at any instant; a scan by what was told is audited against all of it, every time. FTCTL_TEST_ROUNDS: epochs.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "dump/tree.h"
#include "epoch/writer.h"
#include "files/scan.h"
#include "files/test/trees.h"
#include "test/check.h"

enum { THREADS = 6, HELD = 4 };
static int epochs = 100;
static char base[64];

static const char *below(char *buffer, const char *name)
{
	snprintf(buffer, 256, "%s/%s", base, name);
	return buffer;
}

static void make_base(const char *where)
{
	snprintf(base, sizeof base, "%s/ft-watch-XXXXXX", where);
	if (mkdtemp(base) == NULL)
		abort();
}

/* ---- the writer ---- */

struct writer {
	const char *root;
	uint64_t random;
	int fd[HELD];
	char *bytes[HELD];
};

static uint64_t draw(struct writer *w, uint64_t limit)
{
	return check_random(&w->random) % limit;
}

static void pick(struct writer *w, char *out, size_t size)
{
	size_t bytes = (size_t)snprintf(out, size, "%s", w->root);
	for (uint64_t depth = 1 + draw(w, 3); depth > 0; depth--)
		bytes += (size_t)snprintf(out + bytes, size - bytes, "/%c", (int)('a' + draw(w, 5)));
}

/* Holds a few files open, and maps some of them, for many epochs. */
static void hold(struct writer *w, const char *path)
{
	uint64_t i = draw(w, HELD);
	if (w->bytes[i] != NULL)
		munmap(w->bytes[i], 8192);
	if (w->fd[i] >= 0 && draw(w, 2))
		close(w->fd[i]);
	w->bytes[i] = NULL;
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0644);
	if (fd < 0)
		return;
	w->fd[i] = fd;
	if (draw(w, 2) && ftruncate(fd, 8192) == 0) {
		void *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		w->bytes[i] = at == MAP_FAILED ? NULL : at;
		if (draw(w, 4) == 0) {
			close(fd); /* the mapping is all that is left */
			w->fd[i] = -1;
		}
	}
}

/* Ways to write through what is held: some tell, some do not. */
static void use_held(struct writer *w)
{
	uint64_t i = draw(w, HELD);
	int ends[2];
	if (w->fd[i] >= 0)
		switch (draw(w, 6)) {
		case 0:
			(void)!pwrite(w->fd[i], "written", 7, (off_t)draw(w, 8000));
			break;
		case 1: /* no event through an overlay */
			if (pipe(ends) == 0) {
				loff_t to = (loff_t)draw(w, 8000);
				(void)!write(ends[1], "spliced", 7);
				(void)!splice(ends[0], NULL, w->fd[i], &to, 7, 0);
				close(ends[0]);
				close(ends[1]);
			}
			break;
		case 2: { /* a mapping that is gone before the freeze, the file still open */
			struct stat st;
			char *at = fstat(w->fd[i], &st) == 0 && st.st_size >= 4096
			               ? mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd[i], 0)
			               : MAP_FAILED;
			if (at != MAP_FAILED) {
				at[draw(w, 4096)] ^= 0x11;
				munmap(at, 4096);
			}
			break;
		}
		case 3:
			(void)!fallocate(w->fd[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
			break;
		case 4:
			fchmod(w->fd[i], (mode_t)draw(w, 0777));
			break;
		default:
			fsetxattr(w->fd[i], "trusted.held", "value", 1 + draw(w, 5), 0);
		}
	struct stat st;
	if (w->bytes[i] != NULL && w->fd[i] >= 0 && fstat(w->fd[i], &st) == 0 && st.st_size >= 8192)
		w->bytes[i][draw(w, 8192)] ^= 0x55;
}

static void change(struct writer *w)
{
	char path[300], other[300];
	int fd;
	pick(w, path, sizeof path);
	pick(w, other, sizeof other);
	if (draw(w, 400) == 0)
		trees_remove(path); /* directories are moved into one another, deeper and deeper */
	switch (draw(w, 20)) {
	case 0:
	case 1:
		mkdir(path, 0755);
		break;
	case 2:
		rename(path, other);
		break;
	case 3:
		renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE);
		break;
	case 4:
		link(path, other);
		break;
	case 5:
		unlink(path);
		break;
	case 6:
		rmdir(path);
		break;
	case 7:
		(void)!symlink("target", path);
		break;
	case 8:
		mkfifo(path, 0600);
		break;
	case 9:
		chmod(path, 0700 | (mode_t)draw(w, 077));
		break;
	case 10:
		(void)!lchown(path, (uid_t)draw(w, 100), 0);
		break;
	case 11:
		(void)!truncate(path, (off_t)draw(w, 20000));
		break;
	case 12:
		fd = open(w->root, O_TMPFILE | O_RDWR, 0600);
		if (fd >= 0) {
			snprintf(other, sizeof other, "/proc/self/fd/%d", fd);
			(void)!write(fd, "unnamed", 7);
			linkat(AT_FDCWD, other, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
			close(fd);
		}
		break;
	case 13:
	case 14:
		hold(w, path);
		break;
	case 15:
	case 16:
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0644);
		if (fd >= 0) {
			(void)!write(fd, other, 1 + draw(w, 200));
			close(fd);
		}
		break;
	default:
		use_held(w);
	}
}

/* A mapping beyond the end of a file that another thread has cut: the access is repeated as if nothing were. */
static void ignore_bus(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095);
	if (mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(3);
}

static void *write_for_ever(void *argument)
{
	struct writer *w = argument;
	for (;;) {
		change(w);
		if (draw(w, 50) == 0)
			sched_yield();
	}
	return NULL;
}

static pid_t start_writers(const char *root, uint64_t seed)
{
	static struct writer writers[THREADS];
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN); /* threads close one another's descriptors: all the better */
	struct sigaction bus = {.sa_sigaction = ignore_bus, .sa_flags = SA_SIGINFO};
	sigaction(SIGBUS, &bus, NULL);
	for (int i = 0; i < THREADS; i++) {
		pthread_t thread;
		writers[i] = (struct writer){.root = root, .random = seed * 7919 + (uint64_t)i + 1, .fd = {-1, -1, -1, -1}};
		if (pthread_create(&thread, NULL, write_for_ever, &writers[i]) != 0)
			_exit(2);
	}
	for (;;)
		pause();
}

/* ---- the scans ---- */

static struct tree tree;
static struct tree_uses uses;

static int stop(pid_t pid)
{
	int status = 0;
	if (kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status))
		return 0;
	printf("  the writers have ended: %x\n", (unsigned)status);
	return -1;
}

static int scan_stopped(struct files_index *index, pid_t pid, struct files_scan_stats *stats)
{
	int blob = memfd_create("blob", MFD_CLOEXEC);
	struct epoch_writer *w = epoch_writer_open(blob, 1ull << 30);
	struct files_scan_options options = {.frozen = 1};
	int result = pid == 0 ? 0 : tree_read(&tree, pid);
	if (result == 0 && pid != 0) {
		result = tree_uses_read(&tree, &uses);
		options.used = uses.use;
		options.used_count = uses.count;
		options.doubt = uses.doubt;
	}
	if (result == 0)
		result = files_scan(index, w, &options, stats);
	int error = errno;
	if (result != 0)
		printf("  %u told, %u walked (%s): %s: %s\n", stats->told, stats->walked, stats->why ? stats->why : "", files_error(index),
		       strerror(error));
	epoch_writer_close(w);
	close(blob);
	errno = error;
	return result;
}

static struct files_index *open_watched(enum files_kind kind, const char *path, const char *name)
{
	struct files_root root = {kind, path, name};
	char where[256] = "", scratch[256];
	mkdir(below(scratch, "scratch"), 0700);
	struct files_index *index = files_open(&root, 1, NULL, 0, NULL, where);
	if (index == NULL || files_watch(index, scratch) != 0)
		abort();
	files_audit(index);
	return index;
}

/* 1 if every epoch's index was what was there. */
static int run(struct files_index *index, const char *seen)
{
	uint64_t told = 0, walked = 0, looked = 0;
	struct timespec nap = {.tv_nsec = 3000000};
	struct files_scan_stats stats;
	int good = 1;
	pid_t pid = start_writers(seen, trees_seed);
	for (int epoch = 0; epoch < epochs && good; epoch++) {
		nap.tv_nsec = (long)trees_below(8000000);
		nanosleep(&nap, NULL);
		if (trees_below(3) == 0)
			files_listen(index);
		good = stop(pid) == 0 && scan_stopped(index, pid, &stats) == 0;
		int error = errno;
		kill(pid, SIGCONT);
		if (good && trees_below(20) == 0)
			files_rollback(index);
		else if (good)
			files_commit(index);
		else if (error == ELOOP) {
			files_rollback(index); /* deeper than is allowed; they will be removed */
			good = 1;
		}
		told += stats.told;
		walked += stats.walked;
		looked += stats.told ? stats.entries : 0;
		if (stats.walked && getenv("FTCTL_TEST_WHY"))
			printf("  %d: %s\n", epoch, stats.why);
		if (!good)
			printf("  epoch %d of %s\n", epoch, seen);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("  %s: %llu epochs told, %llu walked, %llu entries looked at where told\n", seen, (unsigned long long)told,
	       (unsigned long long)walked, (unsigned long long)looked);
	return good && told > 0; /* while a file is held that has lost the name it was opened by, all are walks */
}

static int run_tree(const char *where)
{
	char path[256];
	make_base(where);
	mkdir(below(path, "tree"), 0755);
	trees_mutate(path, 100, 0);
	struct files_index *index = open_watched(FILES_TREE, path, path);
	int good = run(index, path);
	files_close(index);
	trees_remove(base);
	return good;
}

static int mount_overlay(void)
{
	char path[256], options[900];
	mkdir(below(path, "upper"), 0755);
	mkdir(below(path, "work"), 0755);
	mkdir(below(path, "merged"), 0755);
	mkdir(below(path, "lower"), 0755);
	snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work,redirect_dir=off,metacopy=off,index=off",
	         base, base, base);
	return mount("overlay", below(path, "merged"), "overlay", 0, options);
}

static int run_overlay(const char *where)
{
	char lower[256], upper[256], merged[256];
	int good;
	make_base(where);
	mkdir(below(lower, "lower"), 0755);
	trees_mutate(lower, 200, 0);
	if (mount_overlay() != 0)
		return 0;
	/* Named as the writer's paths begin, so that a path found in /proc leads to the upper directory. */
	struct files_index *index = open_watched(FILES_UPPER, below(upper, "upper"), below(merged, "merged"));
	good = run(index, merged);
	files_close(index);
	umount2(merged, MNT_DETACH);
	trees_remove(base);
	return good;
}

TEST(random_writers_on_a_disk)
{
	CHECK(run_tree("/var/tmp"));
}

TEST(random_writers_on_tmpfs)
{
	CHECK(run_tree("/dev/shm"));
}

TEST(random_writers_in_a_writable_layer)
{
	CHECK(run_overlay("/var/tmp"));
}

/* The audit is no use unless it finds what was not told: a splice into an overlay, and nobody says that the file is open. */
TEST(the_audit_finds_what_nobody_told)
{
	char path[256], upper[256], merged[256];
	struct files_scan_stats stats = {0};
	struct timespec tick = {.tv_nsec = 50000000};
	make_base("/var/tmp");
	mkdir(below(path, "lower"), 0755);
	int bad = mount_overlay() != 0, fd = open(below(path, "merged/file"), O_RDWR | O_CREAT, 0644), ends[2];
	bad |= write(fd, "before", 6) != 6;
	struct files_index *index = open_watched(FILES_UPPER, below(upper, "upper"), "/");
	nanosleep(&tick, NULL);
	bad |= scan_stopped(index, 0, &stats) != 0;
	files_commit(index);
	bad |= pipe(ends) != 0 || write(ends[1], "spliced", 7) != 7 || splice(ends[0], NULL, fd, NULL, 7, 0) != 7;
	int unheard = scan_stopped(index, 0, &stats), error = errno, told = (int)stats.told;
	files_rollback(index);
	/* In doubt after a failure, and so walked. */
	int again = scan_stopped(index, 0, &stats), walked = (int)stats.walked;
	files_commit(index);
	/* With the files that the tasks have open, it is found. */
	bad |= write(ends[1], "spliced", 7) != 7 || splice(ends[0], NULL, fd, NULL, 7, 0) != 7;
	int found = scan_stopped(index, getpid(), &stats), second = (int)stats.told;
	files_commit(index);
	close(fd);
	close(ends[0]);
	close(ends[1]);
	files_close(index);
	umount2(below(merged, "merged"), MNT_DETACH);
	trees_remove(base);
	CHECK(!bad);
	CHECK_EQ(told, 1);
	CHECK_EQ(unheard, -1);
	CHECK_EQ(error, EUCLEAN);
	CHECK_EQ(again, 0);
	CHECK_EQ(walked, 1);
	CHECK_EQ(found, 0);
	CHECK_EQ(second, 1);
}

/* A file of the image that was copied up, and is written through a mapping again and again: no event and no new time. */
TEST(mapped_files_of_an_image_are_found_by_path)
{
	char path[256], upper[256], merged[256];
	struct files_scan_stats stats = {0};
	struct timespec tick = {.tv_nsec = 50000000};
	make_base("/var/tmp");
	mkdir(below(path, "lower"), 0755);
	int fd = open(below(path, "lower/file"), O_RDWR | O_CREAT, 0644);
	int bad = fd < 0 || ftruncate(fd, 8192) != 0;
	close(fd);
	bad |= mount_overlay() != 0;
	fd = open(below(path, "merged/file"), O_RDWR);
	char *bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	struct files_index *index = open_watched(FILES_UPPER, below(upper, "upper"), below(merged, "merged"));
	uint64_t captured = 0;
	for (int epoch = 0; epoch < 6 && !bad; epoch++) {
		bytes[100] = (char)('a' + epoch);
		nanosleep(&tick, NULL);
		bad |= scan_stopped(index, getpid(), &stats) != 0;
		captured += stats.captured_bytes;
		files_commit(index);
	}
	munmap(bytes, 8192);
	files_close(index);
	umount2(merged, MNT_DETACH);
	trees_remove(base);
	CHECK(!bad);
	CHECK(captured >= 6 * 4096);
}

/*
 * A rename out of a directory of the image that fails because the other one is not empty: nothing has changed and nothing is told,
 * but ext4 has put the whiteout there and taken it back, and the directory's time is another.
 */
TEST(a_rename_that_failed_moves_the_time_of_a_merged_directory)
{
	char path[256], other[256], upper[256], merged[256];
	struct files_scan_stats stats = {0};
	struct timespec tick = {.tv_nsec = 50000000};
	struct stat before, after;
	int moved = 0, found = 0, told = 0;
	make_base("/var/tmp");
	mkdir(below(path, "lower"), 0755);
	mkdir(below(path, "lower/a"), 0755);
	mkdir(below(path, "lower/a/b"), 0755);
	mkdir(below(path, "lower/a/b/c"), 0755);
	int bad = mount_overlay() != 0;
	bad |= rmdir(below(path, "merged/a/b/c")) != 0 || mkdir(path, 0755) != 0;
	bad |= mkdir(below(other, "merged/full"), 0755) != 0 || mkdir(below(other, "merged/full/x"), 0755) != 0;
	struct files_index *index = open_watched(FILES_UPPER, below(upper, "upper"), below(merged, "merged"));
	bad |= scan_stopped(index, 0, &stats) != 0;
	files_commit(index);
	for (int i = 0; i < 5 && !bad; i++) {
		nanosleep(&tick, NULL);
		bad |= stat(below(path, "upper/a/b"), &before) != 0;
		bad |= rename(below(path, "merged/a/b/c"), below(other, "merged/full")) == 0 || errno != ENOTEMPTY;
		bad |= stat(below(path, "upper/a/b"), &after) != 0;
		moved += before.st_mtim.tv_sec != after.st_mtim.tv_sec || before.st_mtim.tv_nsec != after.st_mtim.tv_nsec;
		found += scan_stopped(index, 0, &stats) == 0;
		told += (int)stats.told;
		files_commit(index);
	}
	files_close(index);
	umount2(merged, MNT_DETACH);
	trees_remove(base);
	CHECK(!bad);
	CHECK_EQ(moved, 5);
	CHECK_EQ(found, 5);
	CHECK_EQ(told, 5);
}

/* A log of 32 MiB in a writable layer, appended to by a task that keeps it open, among a thousand others. */
TEST(an_append_ships_its_new_bytes_alone)
{
	enum { BLOCKS = 32, APPENDS = 10, BYTES = 100 };
	static char block[1 << 20];
	char path[256], upper[256], merged[256], name[300];
	struct files_scan_stats stats = {0};
	struct timespec tick = {.tv_nsec = 50000000};
	uint64_t captured = 0, hashed_most = 0, looked_most = 0;
	int told = 0;
	make_base("/var/tmp");
	mkdir(below(path, "lower"), 0755);
	int bad = mount_overlay() != 0;
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof name, "%s/%d", below(path, "merged"), i);
		int other = open(name, O_WRONLY | O_CREAT, 0600);
		bad |= other < 0;
		close(other);
	}
	int fd = open(below(path, "merged/log"), O_WRONLY | O_CREAT | O_APPEND, 0644);
	memset(block, 'x', sizeof block);
	for (int i = 0; i < BLOCKS; i++)
		bad |= write(fd, block, sizeof block) != sizeof block;
	nanosleep(&tick, NULL);
	struct files_index *index = open_watched(FILES_UPPER, below(upper, "upper"), below(merged, "merged"));
	bad |= scan_stopped(index, getpid(), &stats) != 0;
	files_commit(index);
	for (int i = 0; i < APPENDS && !bad; i++) {
		bad |= write(fd, block, BYTES) != BYTES || scan_stopped(index, getpid(), &stats) != 0 || files_verify(index) != 0;
		captured += stats.captured_bytes;
		hashed_most = stats.hashed_bytes > hashed_most ? stats.hashed_bytes : hashed_most;
		looked_most = stats.entries > looked_most ? stats.entries : looked_most;
		told += (int)stats.told;
		files_commit(index);
	}
	close(fd);
	files_close(index);
	umount2(merged, MNT_DETACH);
	trees_remove(base);
	CHECK(!bad);
	CHECK_EQ(told, APPENDS);
	CHECK_EQ(captured, APPENDS * BYTES);
	CHECK(hashed_most < 200000);
	CHECK(looked_most < 10);
}

/* More than the kernel's queue holds: the next scan walks, says so, and the one after it does not. */
TEST(a_queue_that_ran_over_is_a_walk)
{
	char path[256], name[300], why[80] = "";
	struct files_scan_stats stats = {0};
	make_base("/dev/shm");
	mkdir(below(path, "tree"), 0755);
	struct files_index *index = open_watched(FILES_TREE, path, "/data");
	int bad = scan_stopped(index, 0, &stats) != 0;
	files_commit(index);
	for (int i = 0; i < 40000; i++) {
		snprintf(name, sizeof name, "%s/%d", path, i);
		int fd = open(name, O_WRONLY | O_CREAT, 0600);
		bad |= fd < 0;
		close(fd);
		if (i % 2 == 0)
			unlink(name);
	}
	bad |= scan_stopped(index, 0, &stats) != 0;
	int walked = (int)stats.walked;
	snprintf(why, sizeof why, "%s", stats.why ? stats.why : "");
	files_commit(index);
	bad |= scan_stopped(index, 0, &stats) != 0;
	files_commit(index);
	files_close(index);
	trees_remove(base);
	CHECK(!bad);
	CHECK_EQ(walked, 1);
	CHECK_STR(why, "the kernel's queue ran over");
	CHECK_EQ(stats.told, 1);
	CHECK_EQ(stats.entries, 0);
}

/* A directory that is removed, and another that has its number at once: by its handle it is another. */
TEST(a_number_used_again_is_another_directory)
{
	char path[256], name[300];
	struct files_scan_stats stats = {0};
	struct stat before, after;
	int same = 0, told = 0;
	make_base("/var/tmp");
	mkdir(below(path, "tree"), 0755);
	snprintf(name, sizeof name, "%s/d", path);
	mkdir(name, 0755);
	struct files_index *index = open_watched(FILES_TREE, path, "/data");
	int bad = scan_stopped(index, 0, &stats) != 0;
	files_commit(index);
	for (int i = 0; i < 30 && !bad; i++) {
		snprintf(name, sizeof name, "%s/d", path);
		bad |= stat(name, &before) != 0 || rmdir(name) != 0 || mkdir(name, 0755) != 0 || stat(name, &after) != 0;
		same += before.st_ino == after.st_ino;
		snprintf(name, sizeof name, "%s/d/f", path);
		int fd = open(name, O_WRONLY | O_CREAT, 0600);
		close(fd);
		bad |= bad || scan_stopped(index, 0, &stats) != 0;
		told += (int)stats.told;
		files_commit(index);
		unlink(name);
	}
	files_close(index);
	trees_remove(base);
	CHECK(!bad);
	CHECK(same > 0);
	CHECK_EQ(told, 30);
}

/* Others write for ever on the same file system: the scan takes what is in the queue, and ends. */
TEST(what_is_not_ours_is_not_looked_at)
{
	char path[256];
	struct files_scan_stats stats = {0};
	make_base("/var/tmp");
	mkdir(below(path, "other"), 0755);
	pid_t pid = start_writers(path, 99);
	char ours[256];
	mkdir(below(ours, "tree"), 0755);
	trees_mutate(ours, 50, 0);
	struct files_index *index = open_watched(FILES_TREE, ours, "/data");
	int bad = scan_stopped(index, 0, &stats) != 0, told = 0;
	uint64_t looked = 0;
	files_commit(index);
	for (int i = 0; i < 20; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
		bad |= scan_stopped(index, 0, &stats) != 0;
		told += (int)stats.told;
		looked += stats.entries;
		files_commit(index);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	files_close(index);
	trees_remove(base);
	CHECK(!bad);
	CHECK_EQ(looked, 0);
	CHECK_EQ(told, 20);
}

/* A file system without handles or with other writers is walked, and is said to be. */
TEST(what_cannot_be_watched_is_walked)
{
	char scratch[256], where[256] = "";
	const char *name;
	struct files_root root = {FILES_TREE, "/proc/self", "/data"};
	make_base("/dev/shm");
	mkdir(below(scratch, "scratch"), 0700);
	struct files_index *index = files_open(&root, 1, NULL, 0, NULL, where);
	int watched = files_watch(index, scratch);
	const char *why = files_unwatched(index, 0, &name);
	int said = why != NULL && strcmp(name, "/data") == 0;
	files_close(index);
	trees_remove(base);
	CHECK_EQ(watched, -1);
	CHECK(said);
}

int main(void)
{
	const char *seed = getenv("FTCTL_TEST_SEED"), *length = getenv("FTCTL_TEST_ROUNDS");
	trees_seed = seed ? strtoull(seed, NULL, 10) : 20240612;
	epochs = length ? atoi(length) : epochs;
	printf("seed %llu\n", (unsigned long long)trees_seed);
	trees_seed = (trees_seed + 1) * 0x9e3779b97f4a7c15ull;
	umask(0);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
		printf("needs root: fanotify and overlays are part of what is tested\n");
		return 1;
	}
	RUN(the_audit_finds_what_nobody_told);
	RUN(mapped_files_of_an_image_are_found_by_path);
	RUN(what_is_not_ours_is_not_looked_at);
	RUN(what_cannot_be_watched_is_walked);
	RUN(a_number_used_again_is_another_directory);
	RUN(a_rename_that_failed_moves_the_time_of_a_merged_directory);
	RUN(an_append_ships_its_new_bytes_alone);
	RUN(a_queue_that_ran_over_is_a_walk);
	RUN(random_writers_on_a_disk);
	RUN(random_writers_on_tmpfs);
	RUN(random_writers_in_a_writable_layer);
	return check_report();
}
