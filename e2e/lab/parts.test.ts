import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cgroupMounts } from "./cgroups.js";
import { daemonConfig } from "./dockerd.js";
import { type ImageRequest, imageConfig, imageKey, parseCopy } from "./image.js";
import { labLayout } from "./layout.js";
import { nestedPids } from "./processes.js";
import { run, until } from "./run.js";
import { readState, writeState } from "./state.js";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ftlab-test-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("state", () => {
  const state = { version: 1 as const, hosts: ["alpha"], agents: false, foldersMade: [] };

  it("comes back as it was written, and is absent before", () => {
    const file = join(dir, "deep/lab.json");
    expect(readState(file)).toBeUndefined();
    writeState(file, state);
    expect(readState(file)).toEqual(state);
  });

  it.each(["", "{", '{"version":2}', '{"version":1,"hosts":[]}', "null"])("refuses %j", (text) => {
    const file = join(dir, "lab.json");
    writeFileSync(file, text);
    expect(() => readState(file)).toThrowError(/not a lab's state/);
  });
});

describe("control groups", () => {
  it("are found on both versions and nothing else is", () => {
    const mountinfo = [
      "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw",
      "31 30 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory",
      "32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
      "33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
    ].join("\n");
    expect(cgroupMounts(mountinfo)).toEqual(["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]);
  });
});

describe("processes", () => {
  it("are read with their pids in every namespace", () => {
    expect(nestedPids("Name:\tx\nNSpid:\t4711\t1\nNSsid:\t0\t0")).toEqual([4711, 1]);
    expect(nestedPids("Name:\tx")).toEqual([]);
  });
});

describe("Docker's configuration", () => {
  it("keeps a host's Docker to itself", () => {
    const config = daemonConfig(labLayout("ftlab", ["alpha"], {}).hosts[0]!);
    expect(config).toMatchObject({
      "cgroup-parent": "/ftlab-alpha",
      bridge: "none",
      iptables: false,
      "storage-driver": "overlay2",
      features: { "containerd-snapshotter": false },
    });
  });
});

describe("images", () => {
  const file = () => join(dir, "file");
  const request = (): ImageRequest => ({
    name: "ft-x",
    packages: ["redis-server"],
    copies: [{ source: file(), target: "/x" }],
    command: ["x"],
    env: [],
  });

  it("have a key that follows every part of the request", () => {
    writeFileSync(file(), "one");
    const key = imageKey(request(), "bookworm amd64");
    expect(imageKey(request(), "bookworm amd64")).toBe(key);
    expect(imageKey(request(), "trixie amd64")).not.toBe(key);
    expect(imageKey({ ...request(), command: ["y"] }, "bookworm amd64")).not.toBe(key);
    expect(imageKey({ ...request(), packages: [] }, "bookworm amd64")).not.toBe(key);
    writeFileSync(file(), "two");
    expect(imageKey(request(), "bookworm amd64")).not.toBe(key);
  });

  it("have a configuration without a time of their making", () => {
    const config = imageConfig(request(), "amd64", "ab");
    expect(JSON.stringify(config)).toBe(JSON.stringify(imageConfig(request(), "amd64", "ab")));
    expect(config).toMatchObject({
      created: "1970-01-01T00:00:00Z",
      rootfs: { type: "layers", diff_ids: ["sha256:ab"] },
      config: { Cmd: ["x"] },
    });
  });

  it("take copies with colons in the source, and only absolute targets", () => {
    expect(parseCopy("a:b:/c")).toEqual({ source: "a:b", target: "/c" });
    for (const bad of ["a", "a:b", ":/c", ""]) expect(() => parseCopy(bad)).toThrowError(/SOURCE/);
  });
});

describe("programs", () => {
  it("report what they printed when they fail", async () => {
    const error = await run("sh", ["-c", "echo out; echo err >&2; exit 7"]).catch((e) => e);
    expect(error.code).toBe("COMMAND_FAILED");
    expect(error.quoted).toEqual(["out", "err"]);
    expect(await run("sh", ["-c", "echo fine; exit 7"], { allowed: [7] })).toBe("fine");
  });

  it("are ended when they take too long", async () => {
    const error = await run("sleep", ["30"], { timeoutMs: 50 }).catch((e) => e);
    expect(error.code).toBe("COMMAND_TIME_OUT");
  });

  it("are waited for only so long", async () => {
    const error = await until("nothing", 30, () => false, 5).catch((e) => e);
    expect(error).toMatchObject({ code: "LAB_TIME_OUT", exitCode: 124 });
  });

  it("have a first process script that a shell accepts", async () => {
    const script = join(import.meta.dirname, "host-init.sh");
    await run("sh", ["-n", script]);
    expect(readFileSync(script, "utf8")).toContain("exec tini");
  });
});
