/* What the machine says about itself, which a replay must not ask again: another host would say something else. */
#include <sched.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

#include "program.h"

static uint64_t bytes_of(uint64_t hash, const void *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		hash = mix(hash, ((const uint8_t *)bytes)[i]);
	return hash;
}

int main(int argc, char **argv)
{
	uint64_t hash = 0;
	begin(argc, argv);
	while (going_on() && !failures) {
		struct sysinfo info = {0};
		struct utsname names = {0};
		struct tms used = {0};
		cpu_set_t set;
		double load[3] = {0};
		char host[100] = "";
		MUST(sysinfo(&info) == 0 && uname(&names) == 0 && getloadavg(load, 3) == 3 && gethostname(host, sizeof host) == 0);
		MUST(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0);
		MUST(strcmp(host, names.nodename) == 0);
		hash = mix(mix(mix(hash, info.uptime), info.freeram), (uint64_t)times(&used));
		hash = mix(mix(hash, (uint64_t)clock()), (uint64_t)used.tms_utime);
		hash = bytes_of(bytes_of(hash, &set, sizeof set), load, sizeof load);
		hash = mix(mix(hash, (uint64_t)sysconf(_SC_AVPHYS_PAGES)), (uint64_t)get_nprocs());
		say("facts", hash);
		nap(500);
	}
	return finish();
}
