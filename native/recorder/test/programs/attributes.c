/* Times and inode numbers of files: a replay writes the files again, later and perhaps elsewhere, and must not see it. */
#include <sys/stat.h>

#include "program.h"

static uint64_t seen(uint64_t hash, const struct stat *s)
{
	hash = mix(mix(hash, (uint64_t)s->st_ino), (uint64_t)s->st_mtim.tv_nsec);
	return mix(mix(hash, (uint64_t)s->st_mtim.tv_sec), (uint64_t)s->st_size);
}

int main(int argc, char **argv)
{
	char name[64];
	uint64_t hash = 0;
	begin(argc, argv);
	snprintf(name, sizeof name, "attributes-%d.tmp", (int)getpid());
	while (going_on() && !failures) {
		struct stat by_path = {0}, by_number = {0}, below = {0};
		struct statx more = {0};
		int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
		MUST(fd >= 0 && write(fd, &hash, sizeof hash) == sizeof hash);
		MUST(stat(name, &by_path) == 0 && fstat(fd, &by_number) == 0 && lstat(name, &below) == 0);
		MUST(by_path.st_ino == by_number.st_ino && by_number.st_size == sizeof hash && below.st_ino == by_path.st_ino);
		MUST(fstatat(AT_FDCWD, name, &below, 0) == 0 && statx(AT_FDCWD, name, 0, STATX_BASIC_STATS | STATX_BTIME, &more) == 0);
		hash = mix(seen(seen(hash, &by_path), &below), more.stx_btime.tv_nsec);
		close(fd);
		unlink(name);
		MUST(stat(name, &by_path) == -1 && errno == ENOENT);
		say("attributes", hash);
		nap(300);
	}
	return finish();
}
