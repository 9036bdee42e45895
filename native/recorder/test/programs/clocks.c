/* Time, chance and identity: all of it goes into what is written. Monotonic time must not fall. */
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "program.h"

static uint64_t hash, last;

static void read_clocks(void)
{
	static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID,
		CLOCK_BOOTTIME};
	struct timespec t;
	struct timeval v;
	struct rusage usage;
	for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
		MUST(clock_gettime(clocks[i], &t) == 0);
		hash = mix(hash, (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
		if (clocks[i] == CLOCK_MONOTONIC) {
			MUST((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec >= last);
			last = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
		}
	}
	gettimeofday(&v, NULL);
	hash = mix(hash, (uint64_t)v.tv_usec);
	hash = mix(hash, (uint64_t)time(NULL));
	hash = mix(hash, (uint64_t)getpid());
	hash = mix(hash, (uint64_t)getppid());
	getrusage(RUSAGE_SELF, &usage);
	hash = mix(hash, (uint64_t)usage.ru_utime.tv_usec);
}

static void read_chance(void)
{
	uint64_t value = 0;
	MUST(getrandom(&value, sizeof value, 0) == sizeof value);
	hash = mix(hash, value);
	int fd = open("/dev/urandom", O_RDONLY);
	MUST(fd >= 0 && read(fd, &value, sizeof value) == sizeof value);
	hash = mix(hash, value);
	close(fd);
	FILE *file = fopen("/dev/urandom", "r");
	MUST(file != NULL && fread(&value, sizeof value, 1, file) == 1);
	hash = mix(hash, value);
	fclose(file);
	char line[256] = "";
	file = fopen("/proc/self/statm", "r");
	MUST(file != NULL && fgets(line, sizeof line, file) != NULL);
	for (char *at = line; *at != 0; at++)
		hash = mix(hash, (uint8_t)*at);
	fclose(file);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	while (going_on()) {
		read_clocks();
		read_chance();
		say("hash", hash);
		usleep(100);
	}
	return finish();
}
