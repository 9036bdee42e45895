/* Files whose names are drawn: the same names in a replay, and the same numbers. */
#include "program.h"

int main(int argc, char **argv)
{
	uint64_t hash = 0;
	begin(argc, argv);
	while (going_on() && !failures) {
		char plain[] = "temporary-XXXXXX", suffixed[] = "temporary-XXXXXX.dat", wrong[] = "temporary";
		uint64_t back = 0;
		int fd = mkstemp(plain), other = mkostemps(suffixed, 4, O_CLOEXEC);
		MUST(fd >= 0 && other > fd && strcmp(suffixed + 16, ".dat") == 0);
		MUST(mkstemp(wrong) == -1 && errno == EINVAL);
		MUST(write(fd, &hash, sizeof hash) == sizeof hash && pread(fd, &back, sizeof back, 0) == sizeof back && back == hash);
		for (const char *at = plain; *at != 0; at++)
			hash = mix(hash, (uint8_t)*at);
		for (const char *at = suffixed; *at != 0; at++)
			hash = mix(hash, (uint8_t)*at);
		hash = mix(hash, (uint64_t)fd * 1000 + (uint64_t)other);
		MUST(unlink(plain) == 0 && unlink(suffixed) == 0);
		close(fd);
		close(other);
		say("temporary", hash);
		nap(300);
	}
	return finish();
}
