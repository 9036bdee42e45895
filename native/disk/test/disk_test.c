/* Writing whole and listing anew. */
#include "disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/check.h"

static int room = -1;

static int file(const char *name)
{
	return openat(room, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

TEST(writes_where_it_is_told)
{
	char text[8] = "";
	int fd = file("a");
	CHECK_EQ(disk_write_at(fd, "hello", 5, 0), 0);
	CHECK_EQ(disk_write_at(fd, "p!", 2, 3), 0);
	CHECK_EQ(pread(fd, text, sizeof text, 0), 5);
	CHECK_STR(text, "help!");
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
	close(fd);
}

TEST(says_why_not_all_was_written)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	errno = 0;
	CHECK_EQ(disk_write_at(full, "x", 1, 0), -1);
	CHECK_EQ(errno, ENOSPC);
	close(full);
	CHECK_EQ(disk_write_at(-1, "", 0, 0), 0);
}

static int count(DIR *list)
{
	int entries = 0;
	for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;)
		entries += entry->d_name[0] != '.';
	if (list != NULL)
		closedir(list);
	return entries;
}

TEST(lists_from_the_first_each_time)
{
	close(file("one"));
	close(file("two"));
	int before = count(disk_list(room, "."));
	CHECK(before >= 2);
	CHECK_EQ(count(disk_list(room, ".")), before);
}

TEST(lists_no_link_and_no_file)
{
	CHECK_EQ(symlinkat(".", room, "link"), 0);
	errno = 0;
	CHECK(disk_list(room, "link") == NULL);
	CHECK(errno == ENOTDIR || errno == ELOOP);
	close(file("plain"));
	CHECK(disk_list(room, "plain") == NULL);
	CHECK_EQ(errno, ENOTDIR);
	CHECK(disk_list(room, "nothing") == NULL);
	CHECK_EQ(errno, ENOENT);
}

int main(void)
{
	char path[] = "/tmp/disk-test-XXXXXX";
	if (mkdtemp(path) == NULL || (room = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 1;
	RUN(writes_where_it_is_told);
	RUN(says_why_not_all_was_written);
	RUN(lists_from_the_first_each_time);
	RUN(lists_no_link_and_no_file);
	static const char *const names[] = { "a", "one", "two", "link", "plain" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		(void)unlinkat(room, names[i], 0);
	close(room);
	if (rmdir(path) != 0)
		return 1;
	return check_report();
}
