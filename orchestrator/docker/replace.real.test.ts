/**
 * On a real Docker: protect, undo, unprotect, standby, image transfer. FTCTL_TEST_DOCKER names the socket of this host's
 * Docker, FTCTL_TEST_DOCKER_2 that of another host's; `make test-docker` gives both. Needs root and build/bin/ftinit.
 */
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../clock.js";
import { upperDir } from "./capture-roots.js";
import { applicationPids } from "./container-process.js";
import { label, plainSpec, protectedSpec } from "./container-spec.js";
import type { ContainerSpec } from "./docker-types.js";
import { Engine } from "./engine.js";
import { buildImage, dropImage } from "./image.fixture.js";
import { receiveImage, sendImage } from "./image.js";
import {
  ORIGINAL_SUFFIX,
  protectContainer,
  recoverAbandoned,
  unprotectContainer,
} from "./protected-container.js";
import { createStandby, removeStandby } from "./standby-container.js";

const socket = process.env.FTCTL_TEST_DOCKER ?? "";
const socket2 = process.env.FTCTL_TEST_DOCKER_2 ?? "";
const initProgram = resolve("build/bin/ftinit");

const run = `k${process.pid}`;
const name = `k-app-${run}`;
const image = `k-image-${run}`;
const pairId = "0123456789ab";

function spec(script: string): ContainerSpec {
  return {
    name,
    Image: image,
    Entrypoint: ["/bin/sh", "-c"],
    Cmd: [script],
    Labels: { team: "k" },
    Hostname: "khost",
    Env: ["GREETING=hello"],
    HostConfig: {
      NetworkMode: "none",
      Binds: [`k-vol-${run}:/data`],
      RestartPolicy: { Name: "unless-stopped" },
    },
  };
}

/** Writes into its layer and volume what overlay has special marks for, and says when it is done. */
const APPLICATION = `trap 'exit 0' TERM
if [ ! -e /state ]; then
  rm /lower; rm -r /opaque; mkdir /opaque; echo two > /opaque/b; ln /opaque/b /opaque/c
  echo "$GREETING" > /state; echo volume > /data/file
fi
while :; do touch /ready; sleep 0.1; done`;

/** The application has set its trap since the container was last started. */
async function ready(engine: Engine, ref: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const inspect = await engine.inspect(ref);
    const mark = `${upperDir(inspect)}/ready`;
    const touchedMs = await stat(mark).then(
      (mark) => mark.mtimeMs,
      () => 0,
    );
    if (inspect.State.Running && touchedMs > Date.parse(String(inspect.State.StartedAt))) return;
    if (Date.now() > deadline) throw new Error(`${ref} never got ready`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

describe.runIf(socket !== "")("on a real Docker", () => {
  const engine = Engine.at(socket, { host: "alpha" });
  const options = { engine, initProgram, clock: systemClock };
  const inside = async (ref: string, script: string) =>
    (await execa("docker", ["-H", `unix://${socket}`, "exec", ref, "/bin/sh", "-c", script]))
      .stdout;
  const protectedFrom = async (host = engine) => {
    const original = await host.inspect(name);
    const own = protectedSpec(original, {
      pairId,
      role: "primary",
      initProgram,
      address: "10.0.0.5",
    });
    return { original, own };
  };

  beforeAll(() => buildImage(socket, image), 60_000);
  afterAll(async () => {
    for (const c of await engine.list()) if (c.name.includes(run)) await engine.remove(c.id);
    for (const host of [socket, socket2].filter((path) => path !== "")) {
      const docker = ["-H", `unix://${host}`];
      await execa("docker", [...docker, "volume", "rm", `k-vol-${run}`], { reject: false });
      await dropImage(host, image);
    }
  }, 60_000);

  it("replaces a container by its protected form with the same files, and back", async () => {
    await engine.start(await engine.create(spec(APPLICATION)));
    await ready(engine, name);
    const { original, own } = await protectedFrom();
    const plain = plainSpec(original);

    const { running } = await protectContainer(original, own, options);
    expect((await running.init.status()).state).toBe("waiting");
    const watch = await running.init.watchExit();
    const pid = await running.init.start();
    const pids = await applicationPids(running.initPid, pid);
    const status = await readFile(`/proc/${pids.outside}/status`, "utf8");
    expect(status).toContain("Name:\tsh");
    expect(await inside(name, "cat /state /data/file /opaque/*; ls / | cat")).toMatch(
      /^hello\nvolume\ntwo\ntwo\n/,
    );
    expect(await inside(name, "ls /opaque /lower 2>&1; cat /etc/hosts")).toMatch(
      /cannot access '\/lower'[\s\S]*b\nc\n[\s\S]*10\.0\.0\.5\s+khost/,
    );
    expect((await engine.inspect(`${name}${ORIGINAL_SUFFIX}`)).State.Running).toBe(false);
    await inside(name, "echo later > /later; echo changed > /state");

    const { id, notes } = await unprotectContainer(running.id, plain, original.Id, options);
    expect(await watch.exited).toMatchObject({ pid, status: 0, signal: 0 });
    expect(notes).toEqual([]);
    const after = await engine.inspect(name);
    expect(after.Id).toBe(id);
    expect(after.HostConfig.RestartPolicy).toMatchObject({ Name: "unless-stopped" });
    expect(after.Config.Labels).toEqual({ team: "k" });
    expect(
      await inside(name, "cat /later /state; ls -d /.ftctl 2>&1; ls /lower 2>&1; true"),
    ).toMatch(/^later\nchanged\n.*No such file.*\n.*No such file/);
    const left = (await engine.list()).filter((c) => c.name.startsWith(name));
    expect(left.map((c) => c.name)).toEqual([name]);
    await engine.remove(name);
  }, 60_000);

  it("brings the original back as it was when a step fails, and when asked to", async () => {
    await engine.start(await engine.create(spec(APPLICATION)));
    await ready(engine, name);
    const { original, own } = await protectedFrom();
    const same = async () => {
      await ready(engine, name);
      const now = await engine.inspect(name);
      expect(now.Id).toBe(original.Id);
      expect(now.State.Running).toBe(true);
      expect(now.HostConfig.RestartPolicy).toEqual(original.HostConfig.RestartPolicy);
    };
    const broken = { ...own, HostConfig: { ...own.HostConfig, Runtime: "no-such-runtime" } };
    await expect(protectContainer(original, broken, options)).rejects.toThrow(/no-such-runtime/);
    await same();
    const noInit = { ...options, initProgram: "/nonexistent/ftinit" };
    await expect(protectContainer(original, own, noInit)).rejects.toThrow();
    await same();
    const { rollback } = await protectContainer(original, own, options);
    await rollback.unwind(name);
    await same();
    expect((await engine.list()).filter((c) => c.name.startsWith(name))).toHaveLength(1);

    // An agent that died in the middle: nobody knows the pair.
    await protectContainer(original, own, options);
    expect(await recoverAbandoned(engine, () => true)).toEqual([]);
    expect(await recoverAbandoned(engine, (id) => id !== pairId)).toEqual([name]);
    await same();

    // An old primary that has lost its pair's container and is about to become the standby.
    const { running } = await protectContainer(original, own, options);
    await engine.remove(running.id);
    expect(
      await recoverAbandoned(
        engine,
        () => true,
        (known) => known === name,
      ),
    ).toEqual([]);
    expect((await engine.inspect(original.Id)).State.Running).toBe(false);
    await engine.remove(original.Id);
  }, 60_000);

  it("runs the application as it was: another user, no rights, read-only, few pids", async () => {
    const script = "trap 'exit 0' TERM; echo x > /run/here; while :; do sleep 0.1; done";
    const locked = spec(script);
    Object.assign(locked, { User: "65534:65534", WorkingDir: "/tmp" });
    Object.assign(locked.HostConfig, {
      Binds: [],
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"],
      PidsLimit: 5,
      Init: true,
      Tmpfs: { "/run": "mode=1777" },
      Ulimits: [{ Name: "nofile", Soft: 77, Hard: 88 }],
    });
    await engine.start(await engine.create(locked));
    const original = await engine.inspect(name);
    const own = protectedSpec(original, {
      pairId,
      role: "primary",
      initProgram,
      address: "10.0.0.5",
    });
    const { running } = await protectContainer(original, own, options);
    const { outside } = await applicationPids(running.initPid, await running.init.start());
    const status = await readFile(`/proc/${outside}/status`, "utf8");
    expect(status).toMatch(/^Uid:\t65534\t/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^CapBnd:\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(status).toMatch(/^SigBlk:\t0+$/m);
    expect(await readFile(`/proc/${outside}/limits`, "utf8")).toMatch(/open files\s+77\s+88/);
    expect(await readlink(`/proc/${outside}/cwd`)).toBe("/tmp");
    expect((await readdir(`/proc/${outside}/fd`)).map(Number).filter((fd) => fd < 10)).toEqual([
      0, 1, 2,
    ]);
    await engine.remove(name);
    await engine.remove(original.Id);
  }, 60_000);

  it("says what cannot be found, and that Docker is away", async () => {
    await expect(engine.inspect("k-nobody")).rejects.toMatchObject({
      code: "CONTAINER_NOT_FOUND",
      exitCode: 3,
    });
    expect(await engine.find("k-nobody")).toBeUndefined();
    expect(await engine.image("k-nothing")).toBeUndefined();
    const away = Engine.at("/nonexistent/docker.sock", { host: "beta" });
    await expect(away.version()).rejects.toMatchObject({ code: "DOCKER_UNREACHABLE" });
  });

  /** This host is the standby's; of the primary's there is only its Docker's socket, so that no process of it is seen. */
  describe.runIf(socket2 !== "")("and another host's", () => {
    const primary = Engine.at(socket2, { host: "beta" });
    const theirs = `${image}-theirs`;
    const there = { engine, initProgram, clock: systemClock, replicated: [] };
    let imageId: string;

    beforeAll(async () => {
      await buildImage(socket2, theirs);
      imageId = (await primary.image(theirs))!.id;
    }, 60_000);
    afterAll(async () => {
      for (const c of await primary.list()) if (c.name.includes(run)) await primary.remove(c.id);
      for (const host of [socket, socket2]) await dropImage(host, theirs);
    }, 60_000);

    it("ships the image and keeps a warm standby", async () => {
      expect(await engine.image(imageId)).toBeUndefined();
      const pipe = new PassThrough();
      let bytes = 0;
      await Promise.all([
        sendImage(primary, imageId, pipe, (n) => {
          bytes = n;
        }),
        receiveImage(engine, imageId, pipe),
      ]);
      expect(bytes).toBeGreaterThan(1_000_000);
      expect((await engine.image(imageId))!.id).toBe(imageId);
      await primary.create({ ...spec(APPLICATION), Image: theirs });
      const { own } = await protectedFrom(primary);
      const standby = await createStandby(own, there);
      expect((await standby.init.status()).state).toBe("waiting");
      expect(standby.inspect.Config.Labels?.[label.createdAs]).toBe("standby");
      expect(standby.inspect.Config.Hostname).toBe("khost");

      await createStandby(own, there); // again: the pair's own is replaced
      const foreign = { ...own, Labels: { ...own.Labels, [label.pair]: "ffffffffffff" } };
      await expect(createStandby(foreign, there)).rejects.toMatchObject({ code: "NAME_TAKEN" });
      await removeStandby(engine, name, pairId);
      expect(await engine.find(name)).toBeUndefined();
      await primary.remove(name);
    }, 60_000);

    it("refuses an image that is cut off or another", async () => {
      const other = `sha256:${"0".repeat(64)}`;
      const tar = Readable.from([Buffer.alloc(4096, 7)]);
      await expect(receiveImage(engine, other, tar)).rejects.toThrow();
      const pipe = new PassThrough();
      const cut = sendImage(primary, imageId, pipe, () => pipe.destroy(new Error("cut")));
      await expect(cut).rejects.toMatchObject({ code: "IMAGE_TRANSFER_FAILED" });
      const half = new PassThrough();
      const receiving = receiveImage(engine, imageId, half);
      half.write(Buffer.alloc(4096));
      half.destroy(new Error("the peer is gone"));
      await expect(receiving).rejects.toMatchObject({ code: "IMAGE_TRANSFER_FAILED" });
    });
  });
});
