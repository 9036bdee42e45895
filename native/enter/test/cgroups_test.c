/* Finding where a cgroup hierarchy is mounted, from the text of mountinfo. */
#include "enter/enter.h"
#include "test/check.h"

static const char hybrid[] =
	"25 30 0:23 / /sys rw - sysfs sysfs rw\n"
	"31 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
	"32 25 0:27 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset\n"
	"33 25 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n"
	"34 25 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

static char out[256];

TEST(finds_version_1_by_its_first_controller)
{
	CHECK_EQ(enter_cgroup_mount(hybrid, "cpu,cpuacct", out, sizeof out), 0);
	CHECK_STR(out, "/sys/fs/cgroup/cpu,cpuacct");
	CHECK_EQ(enter_cgroup_mount(hybrid, "cpuset", out, sizeof out), 0);
	CHECK_STR(out, "/sys/fs/cgroup/cpuset");
}

TEST(finds_a_named_hierarchy)
{
	CHECK_EQ(enter_cgroup_mount(hybrid, "name=systemd", out, sizeof out), 0);
	CHECK_STR(out, "/sys/fs/cgroup/systemd");
}

TEST(finds_version_2)
{
	CHECK_EQ(enter_cgroup_mount(hybrid, "", out, sizeof out), 0);
	CHECK_STR(out, "/sys/fs/cgroup/unified");
}

TEST(does_not_take_a_part_of_a_name)
{
	CHECK_EQ(enter_cgroup_mount(hybrid, "cpus", out, sizeof out), -1);
	CHECK_EQ(enter_cgroup_mount(hybrid, "set", out, sizeof out), -1);
	CHECK_EQ(enter_cgroup_mount(hybrid, "memory", out, sizeof out), -1);
}

TEST(refuses_what_does_not_fit_and_survives_garbage)
{
	CHECK_EQ(enter_cgroup_mount(hybrid, "", out, 4), -1);
	CHECK_EQ(enter_cgroup_mount("", "", out, sizeof out), -1);
	CHECK_EQ(enter_cgroup_mount(" - cgroup2 ", "", out, sizeof out), -1);
	CHECK_EQ(enter_cgroup_mount("x - cgroup \n - cgroup\n\n", "cpu", out, sizeof out), -1);
}

TEST(fuzz_stays_inside)
{
	uint64_t seed = 20240601;
	for (int round = 0; round < 20000; round++) {
		char text[sizeof hybrid];
		memcpy(text, hybrid, sizeof text);
		for (int i = 0; i < 6; i++)
			text[check_random(&seed) % (sizeof text - 1)] = (char)(check_random(&seed) % 127 + 1);
		text[check_random(&seed) % sizeof text] = 0;
		(void)enter_cgroup_mount(text, round % 2 ? "cpu,cpuacct" : "", out, sizeof out);
	}
	CHECK(1);
}

int main(void)
{
	RUN(finds_version_1_by_its_first_controller);
	RUN(finds_a_named_hierarchy);
	RUN(finds_version_2);
	RUN(does_not_take_a_part_of_a_name);
	RUN(refuses_what_does_not_fit_and_survives_garbage);
	RUN(fuzz_stays_inside);
	return check_report();
}
