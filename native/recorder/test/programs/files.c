/* Files are written, read, moved and listed again by a replay. The numbers of descriptors must be the same. */
#include <sys/stat.h>

#include "program.h"

int main(int argc, char **argv)
{
	char name[2][64];
	uint64_t hash = 0, n = 0;
	begin(argc, argv);
	snprintf(name[0], sizeof name[0], "files-%d.tmp", (int)getpid());
	snprintf(name[1], sizeof name[1], "files-%d.dat", (int)getpid());
	unlink(name[1]);
	while (going_on()) {
		uint64_t value = mix(hash, ++n), back = 0, there[8] = {0};
		int fd = open(name[0], O_CREAT | O_RDWR | O_TRUNC, 0600), copy = dup(fd), high = fcntl(fd, F_DUPFD_CLOEXEC, 40);
		MUST(fd >= 0 && copy > fd && high >= 40);
		for (int i = 0; i < 8; i++)
			MUST(write(copy, &value, sizeof value) == sizeof value);
		MUST(pread(high, &back, sizeof back, 56) == sizeof back && back == value);
		MUST(lseek(fd, 0, SEEK_SET) == 0 && read(fd, there, sizeof there) == sizeof there && there[7] == value);
		struct stat status;
		MUST(fstat(fd, &status) == 0 && status.st_size == 64);
		hash = mix(hash, (uint64_t)(fd + copy * 100 + high * 10000));
		close(high);
		close(copy);
		close(fd);
		MUST(rename(name[0], name[1]) == 0);
		FILE *file = fopen(name[1], "r");
		MUST(file != NULL && fread(&back, sizeof back, 1, file) == 1 && back == value);
		hash = mix(hash, (uint64_t)fileno(file));
		fclose(file);
		say("hash", mix(hash, back));
		usleep(200);
	}
	unlink(name[1]);
	return finish();
}
