/* What is read beside CRIU is what CRIU would have read: this process is its own target. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/texts.h"
#include "test/check.h"

enum { THREADS = 3 };

static pthread_barrier_t ready;
static pid_t thread[THREADS + 1];

static void *wait_here(void *place)
{
	*(pid_t *)place = (pid_t)syscall(SYS_gettid);
	pthread_barrier_wait(&ready);
	pause();
	return NULL;
}

static int open_self(void)
{
	return open("/proc/self", O_PATH | O_DIRECTORY);
}

static ssize_t text_of(int fd, char *room, size_t size)
{
	ssize_t length = fd < 0 ? -1 : read(fd, room, size);
	if (fd >= 0)
		close(fd);
	return length;
}

TEST(nothing_is_given_before_it_is_read)
{
	char path[32];
	int self = open_self();
	snprintf(path, sizeof path, "task/%d/cgroup", (int)thread[0]);
	CHECK_EQ(texts_open(self, path, O_RDONLY), -1);
	CHECK(!texts_whole());
	close(self);
}

TEST(each_thread_s_is_the_kernel_s_and_given_once)
{
	char path[32], given[4096], real[4096];
	int self = open_self(), other = open("/proc/1", O_PATH | O_DIRECTORY);
	texts_read(thread, THREADS + 1);
	CHECK(texts_whole());
	for (size_t i = 0; i <= THREADS; i++) {
		snprintf(path, sizeof path, "task/%d/cgroup", (int)thread[i]);
		CHECK_EQ(texts_open(other, path, O_RDONLY), -1);
		CHECK_EQ(texts_open(self, path, O_RDWR), -1);
		ssize_t length = text_of(texts_open(self, path, O_RDONLY), given, sizeof given);
		CHECK(length > 0);
		CHECK_EQ(text_of(openat(self, path, O_RDONLY), real, sizeof real), length);
		CHECK_EQ(memcmp(given, real, (size_t)length), 0);
		CHECK_EQ(texts_open(self, path, O_RDONLY), -1);
	}
	close(self);
	close(other);
}

TEST(of_others_nothing_is_known)
{
	int self = open_self();
	CHECK_EQ(texts_open(self, "task/999999999/cgroup", O_RDONLY), -1);
	CHECK_EQ(texts_open(self, "cgroup", O_RDONLY), -1);
	CHECK_EQ(texts_open(-1, "task/1/cgroup", O_RDONLY), -1);
	close(self);
}

int main(void)
{
	pthread_t started;
	if (pthread_barrier_init(&ready, NULL, THREADS + 1) != 0)
		return 1;
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&started, NULL, wait_here, &thread[i + 1]) != 0)
			return 1;
	thread[0] = getpid();
	pthread_barrier_wait(&ready);
	if (!texts_prepare(getpid()))
		return 1;
	RUN(nothing_is_given_before_it_is_read);
	RUN(each_thread_s_is_the_kernel_s_and_given_once);
	RUN(of_others_nothing_is_known);
	return check_report();
}
