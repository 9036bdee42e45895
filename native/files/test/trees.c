#include "files/test/trees.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

uint64_t trees_seed;

static uint64_t check_random(uint64_t *state) /* as in test/check.h */
{
	uint64_t x = *state;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

uint64_t trees_below(uint64_t limit)
{
	return check_random(&trees_seed) % limit;
}

/* A small set of names, so that things meet: files become directories, links are renamed over, and so on. */
static void random_path(const char *root, char *out, size_t size)
{
	size_t bytes = (size_t)snprintf(out, size, "%s", root);
	for (uint64_t depth = 1 + trees_below(3); depth > 0; depth--)
		bytes += (size_t)snprintf(out + bytes, size - bytes, "/%c%s", (int)('a' + trees_below(6)),
		                          trees_below(30) ? "" : " \xc3\xa4\n");
}

static void fill(int fd, uint64_t from, uint64_t length)
{
	uint8_t bytes[5000];
	while (length > 0) {
		uint64_t n = length < sizeof bytes ? length : sizeof bytes;
		uint64_t zero = trees_below(5) == 0;
		for (uint64_t i = 0; i < n; i++)
			bytes[i] = zero ? 0 : (uint8_t)check_random(&trees_seed);
		if (pwrite(fd, bytes, n, (off_t)from) != (ssize_t)n)
			abort();
		from += n;
		length -= n;
	}
}

static void change_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0644);
	if (fd < 0)
		return;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return;
	}
	uint64_t size = (uint64_t)st.st_size, at = size ? trees_below(size) : 0;
	switch (trees_below(8)) {
	case 0:
		if (ftruncate(fd, (off_t)trees_below(60000)) != 0)
			abort();
		break;
	case 1:
		if (ftruncate(fd, 0) != 0)
			abort();
		fill(fd, 0, trees_below(30000));
		break;
	case 2:
		fill(fd, at, 1 + trees_below(9000));
		break;
	case 3:
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(1 + trees_below(20000))) != 0 &&
		    errno != EOPNOTSUPP)
			abort();
		break;
	case 4:
		fill(fd, size + trees_below(200000), 1 + trees_below(5000));
		break;
	default:
		fill(fd, size, trees_below(6000));
		break;
	}
	close(fd);
}

static void change_through_mapping(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		uint8_t *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (bytes != MAP_FAILED) {
			bytes[trees_below((uint64_t)st.st_size)] ^= 0x55;
			munmap(bytes, (size_t)st.st_size);
		}
	}
	close(fd);
}

static void make_socket(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd >= 0 && strlen(path) < sizeof name.sun_path) {
		strcpy(name.sun_path, path);
		(void)!bind(fd, (struct sockaddr *)&name, sizeof name);
	}
	close(fd);
}

static void change_meta(const char *path)
{
	struct stat st;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {(time_t)trees_below(2000000000), (long)trees_below(1000000000)}};
	char value[300];
	if (lstat(path, &st) != 0)
		return;
	memset(value, 'v', sizeof value);
	switch (trees_below(5)) {
	case 0:
		if (!S_ISLNK(st.st_mode))
			(void)!chmod(path, (mode_t)(trees_below(07777 + 1) | (S_ISDIR(st.st_mode) ? 0700 : 0)));
		break;
	case 1:
		(void)!lchown(path, (uid_t)trees_below(3000), (gid_t)trees_below(3000));
		break;
	case 2:
		utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
		break;
	case 3:
		if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
			setxattr(path, trees_below(2) ? "user.one" : "trusted.two", value, trees_below(sizeof value), 0);
		break;
	default:
		if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
			removexattr(path, "user.one");
	}
}

static void mutate(const char *root, int in_overlay)
{
	char path[512], other[512];
	random_path(root, path, sizeof path);
	random_path(root, other, sizeof other);
	switch (trees_below(26)) {
	case 0:
	case 1:
	case 2:
		mkdir(path, 0755);
		break;
	case 3:
		if (trees_below(8) == 0)
			trees_remove(path);
		break;
	case 4:
		unlink(path);
		break;
	case 5:
	case 6:
		rename(path, other);
		break;
	case 7:
		(void)!link(path, other);
		break;
	case 8:
		(void)!symlink(trees_below(2) ? "../x" : "/etc/passwd", path);
		break;
	case 9:
		mkfifo(path, 0600);
		break;
	case 10:
		if (trees_below(4) == 0)
			(void)!mknod(path, S_IFCHR | 0600, makedev(1, 3));
		break;
	case 11:
	case 12:
	case 13:
		change_meta(path);
		break;
	case 14:
		if (trees_below(4) == 0)
			make_socket(path);
		break;
	case 15:
		if (!in_overlay)
			change_through_mapping(path);
		break;
	case 16:
		if (trees_below(8) == 0)
			trees_remove(path);
		change_file(path);
		break;
	default:
		change_file(path);
	}
}

void trees_mutate(const char *path, int changes, int in_overlay)
{
	while (changes-- > 0)
		mutate(path, in_overlay);
}

void trees_remove(const char *path)
{
	DIR *dir;
	char below[4096];
	if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR || (dir = opendir(path)) == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
		trees_remove(below);
	}
	closedir(dir);
	rmdir(path);
}

/* ---- comparison ---- */

static int differ(const char *path, const char *what)
{
	printf("  differs: %s: %s\n", path, what);
	return 0;
}

static int same_content(const char *a, const char *b, size_t size)
{
	int fa = open(a, O_RDONLY), fb = open(b, O_RDONLY), same = fa >= 0 && fb >= 0;
	uint8_t *x = size ? mmap(NULL, size, PROT_READ, MAP_SHARED, fa, 0) : NULL;
	uint8_t *y = size ? mmap(NULL, size, PROT_READ, MAP_SHARED, fb, 0) : NULL;
	if (same && size > 0) {
		same = memcmp(x, y, size) == 0;
		for (size_t i = 0; i < size && !same; i++)
			if (x[i] != y[i]) {
				printf("  first byte that differs: %zu of %zu\n", i, size);
				break;
			}
		munmap(x, size);
		munmap(y, size);
	}
	close(fa);
	close(fb);
	return same;
}

static int same_attributes(const char *a, const char *b)
{
	static const char *const names[] = {"user.one", "trusted.two"};
	for (int i = 0; i < 2; i++) {
		char x[400], y[400];
		ssize_t n = lgetxattr(a, names[i], x, sizeof x), m = lgetxattr(b, names[i], y, sizeof y);
		if (n != m || (n > 0 && memcmp(x, y, (size_t)n) != 0))
			return 0;
	}
	return 1;
}

static int equal_entry(const char *a, const char *b);

static int count_entries(const char *path, int *sockets)
{
	DIR *dir = opendir(path);
	int count = 0;
	if (dir == NULL)
		return -1;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		struct stat st;
		count++;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
			++*sockets;
	}
	closedir(dir);
	return count - *sockets;
}

static int equal_directory(const char *a, const char *b)
{
	char x[4096], y[4096];
	int sockets = 0, others = 0, equal = 1, in_a = count_entries(a, &sockets), in_b = count_entries(b, &others);
	if (in_a != in_b)
		equal = in_a > in_b ? 1 : differ(b, "more entries than there should be");
	DIR *dir = opendir(a);
	for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(x, sizeof x, "%s/%s", a, entry->d_name);
		snprintf(y, sizeof y, "%s/%s", b, entry->d_name);
		equal &= equal_entry(x, y);
	}
	closedir(dir);
	return equal;
}

/* inode of a -> inode of b, for links */
static struct {
	uint64_t a, b;
} pairs[4096];
static int pair_count;

static int same_links(uint64_t a, uint64_t b)
{
	for (int i = 0; i < pair_count; i++)
		if ((pairs[i].a == a) != (pairs[i].b == b))
			return 0;
	if (pair_count < 4096) {
		pairs[pair_count].a = a;
		pairs[pair_count++].b = b;
	}
	return 1;
}

static int equal_entry(const char *a, const char *b)
{
	struct stat sa, sb;
	if (lstat(a, &sa) != 0)
		return differ(a, "cannot be looked at");
	if (S_ISSOCK(sa.st_mode))
		return 1;
	if (lstat(b, &sb) != 0)
		return differ(b, "is missing");
	if (sa.st_mode != sb.st_mode)
		return differ(b, "mode or type");
	if (sa.st_uid != sb.st_uid || sa.st_gid != sb.st_gid)
		return differ(b, "owner");
	int times = sa.st_mtim.tv_sec == sb.st_mtim.tv_sec && sa.st_mtim.tv_nsec == sb.st_mtim.tv_nsec;
	if (!S_ISREG(sa.st_mode) && !S_ISDIR(sa.st_mode) && sa.st_rdev != sb.st_rdev)
		return differ(b, "device number");
	if (S_ISLNK(sa.st_mode)) {
		char x[256] = "", y[256] = "";
		if (readlink(a, x, 255) < 0 || readlink(b, y, 255) < 0 || strcmp(x, y) != 0)
			return differ(b, "target");
	} else if (S_ISREG(sa.st_mode)) {
		if (sa.st_size != sb.st_size)
			return differ(b, "size");
		if (!same_content(a, b, (size_t)sa.st_size))
			return differ(b, "content");
		if (!same_links(sa.st_ino, sb.st_ino))
			return differ(b, "what it is linked to");
	}
	if ((S_ISREG(sa.st_mode) || S_ISDIR(sa.st_mode)) && !same_attributes(a, b))
		return differ(b, "extended attributes");
	int equal = S_ISDIR(sa.st_mode) ? equal_directory(a, b) : 1;
	return times ? equal : differ(b, "mtime");
}

int trees_equal(const char *a, const char *b)
{
	pair_count = 0;
	return equal_entry(a, b);
}
