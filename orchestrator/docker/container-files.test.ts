import { describe, expect, it } from "vitest";
import { captureRoots, formatRoots, upperDir, writableVolumes } from "./capture-roots.js";
import { cpuTimePathFrom, namespacePids } from "./container-process.js";
import { inspectFixture } from "./inspect.fixture.js";
import { parseMountinfo } from "./mountinfo.js";

// Of a real container, long overlay options shortened.
const MOUNTINFO = `118 64 0:51 / / rw,relatime master:7 - overlay overlay rw,lowerdir=/d/l/ZP:/d/l/ZZ,upperdir=/d/3b/diff,workdir=/d/3b/work
119 118 0:54 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
120 118 0:55 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
122 118 0:57 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
123 122 0:58 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
133 120 0:53 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
134 120 0:59 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=32768k
135 118 254:0 /volumes/kvol/_data /data rw,relatime master:4 - ext4 /dev/vda rw,discard
136 118 254:0 /with\\040space /two\\040words rw,relatime master:4 - ext4 /dev/vda rw,discard
137 118 0:60 / /run rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw
141 118 0:66 / /frozen ro,relatime - tmpfs tmpfs rw
138 118 254:0 /containers/94/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw,discard
70 119 0:61 / /proc/acpi ro,relatime - tmpfs tmpfs ro
71 119 0:55 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
`;

describe("what belongs to an epoch", () => {
  const mounts = parseMountinfo(MOUNTINFO);
  const inspect = inspectFixture({ State: { Pid: 77 } });

  it("is the writable layer and every writable tmpfs of the container's own", () => {
    expect(formatRoots(captureRoots(inspect, mounts, []))).toBe(
      "upper /var/lib/docker/overlay2/aa/diff /\n" +
        "tree /proc/77/root/dev/shm /dev/shm\n" +
        "tree /proc/77/root/run /run\n",
    );
  });

  it("and the volumes and bind mounts that the policy replicates, percent-encoded", () => {
    const text = formatRoots(
      captureRoots(inspect, mounts, [
        { target: "/data/", action: "replicate" },
        { target: "/two words", action: "replicate" },
        { target: "/etc/hosts", action: "ignore" },
      ]),
    );
    expect(text).toContain("tree /proc/77/root/data /data\n");
    expect(text).toContain("tree /proc/77/root/two%20words /two%20words\n");
    expect(text).not.toContain("hosts");
  });

  it("refuses a policy that replicates what is not mounted", () => {
    const missing = [{ target: "/nowhere", action: "replicate" as const }];
    expect(() => captureRoots(inspect, mounts, missing)).toThrow(/\/nowhere/);
  });

  it("finds the upper folder in inspect or in mountinfo, and refuses other storage", () => {
    expect(upperDir(inspect)).toBe("/var/lib/docker/overlay2/aa/diff");
    const other = inspectFixture({ GraphDriver: { Name: "overlayfs", Data: null } });
    expect(upperDir(other, mounts)).toBe("/d/3b/diff");
    expect(() => upperDir(other, [])).toThrow(/overlayfs, not overlay2/);
  });

  it("names the writable volumes that a policy must decide about", () => {
    const volumes = inspectFixture({
      Mounts: [
        { Type: "volume", Name: "v", Source: "/v", Destination: "/data", RW: true },
        { Type: "bind", Source: "/c", Destination: "/config", RW: false },
        { Type: "tmpfs", Source: "", Destination: "/run", RW: true },
      ],
    });
    expect(writableVolumes(volumes)).toEqual(["/data"]);
  });
});

describe("a container's processes", () => {
  it("have a pid in each namespace", () => {
    expect(namespacePids("Name:\tsh\nNSpid:\t4712\t7\n")).toEqual([4712, 7]);
    expect(namespacePids("Name:\tsh\n")).toEqual([]);
  });

  it("have their CPU time counted in cpuacct (v1, hybrid) or cpu.stat (v2)", () => {
    const v1 = cpuTimePathFrom(
      "9:name=systemd:/tw1/94\n2:cpu,cpuacct:/tw1/94\n0::/tw1/94\n",
      "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n" +
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    );
    expect(v1).toBe("/sys/fs/cgroup/cpu,cpuacct/tw1/94/cpuacct.usage");
    const v2 = cpuTimePathFrom(
      "0::/system.slice/docker-94.scope\n",
      "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    expect(v2).toBe("/sys/fs/cgroup/system.slice/docker-94.scope/cpu.stat");
    expect(cpuTimePathFrom("0::/x\n", "")).toBeUndefined();
  });
});
