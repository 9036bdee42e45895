/** Binds the pair's ports to Docker and ftinit. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { ResolvedPolicy } from "../../policies/resolve.js";
import type { Clock } from "../clock.js";
import { applicationPids } from "../docker/container-process.js";
import {
  type HostPrograms,
  isRecorded,
  label,
  plainSpec,
  protectedSpec,
  specForHost,
} from "../docker/container-spec.js";
import type { ContainerSpec } from "../docker/docker-types.js";
import { containerName } from "../docker/docker-types.js";
import type { Engine } from "../docker/engine.js";
import { InitClient } from "../docker/init-client.js";
import {
  protectContainer,
  startWaiting,
  unprotectContainer,
} from "../docker/protected-container.js";
import { createStandby } from "../docker/standby-container.js";
import { configureInterface, WIDE_WINDOW_SEGMENTS } from "../network/interface.js";
import type { Application, ContainerControl, OriginControl } from "../pair/ports.js";
import type { AgentShared } from "./main.js";
import { pairPaths } from "./paths.js";

export interface DockerWiring extends HostPrograms {
  engine: Engine;
  clock: Clock;
}

export function dockerWiring({ config, engine, clock }: AgentShared): DockerWiring {
  return {
    engine,
    clock,
    initProgram: join(config.nativeDir, "bin/ftinit"),
    recorder: join(config.nativeDir, "lib/libftrec.so"),
    logFolder: (pair) => pairPaths(config.runDir, pair).logFolder,
  };
}

export function containerControl(wiring: DockerWiring): ContainerControl {
  const { engine, initProgram, clock } = wiring;
  const initOf = (app: Application) =>
    new InitClient({ program: initProgram, hostPid: app.initPid, subject: "container" });
  return {
    async create(record) {
      const spec = record.containerSpec as unknown as ContainerSpec;
      const policy = record.policy as unknown as ResolvedPolicy;
      const replicated = policy.files.mounts
        .filter(({ action }) => action === "replicate")
        .map(({ target }) => target);
      const options = { ...wiring, replicated };
      return (await createStandby(spec, options)).id;
    },
    async start(containerId) {
      const { initPid } = await startWaiting(engine, containerId, initProgram, clock);
      return { initPid, pid: 0 };
    },
    async adopt(app, pid) {
      await initOf(app).adopt(pid);
      return { ...app, pid };
    },
    async running(containerId) {
      const inspect = await engine.find(containerId);
      if (!inspect?.State.Running || inspect.State.Pid === 0) return undefined;
      const app = { initPid: inspect.State.Pid, pid: 0 };
      const { state, pid } = await initOf(app).status();
      return { ...app, pid: state === "running" ? pid : 0 };
    },
    async waiting(containerId) {
      const inspect = await engine.find(containerId);
      if (!inspect?.State.Running || inspect.State.Pid === 0) return false;
      return (await initOf({ initPid: inspect.State.Pid, pid: 0 }).status()).state === "waiting";
    },
    async startApplication(app) {
      const pid = await initOf(app).start();
      await applicationPids(app.initPid, pid);
      return { ...app, pid };
    },
    lives: (app, pid) =>
      applicationPids(app.initPid, pid).then(
        () => true,
        () => false,
      ),
    watchExit(app, onExit) {
      let stopped = false;
      let stop = () => {
        stopped = true;
      };
      initOf(app)
        .watchExit()
        .then(
          async (watch) => {
            stop = () => {
              stopped = true;
              watch.stop();
            };
            if (stopped) return watch.stop();
            const exit = await watch.exited;
            // ftinit gone without a word: the container was killed from outside.
            if (!stopped) onExit(exit ?? { status: 137, signal: 9 });
          },
          () => {
            if (!stopped) onExit({ status: 137, signal: 9 });
          },
        );
      return () => stop();
    },
    remove: (containerId) => engine.remove(containerId),
    configureInterface: (record, initPid, window) =>
      configureInterface({
        ...(window === "wide" ? { initialWindowSegments: WIDE_WINDOW_SEGMENTS } : {}),
        pid: initPid,
        name: "eth0",
        address: record.network.address,
        gateway: record.network.gateway,
        mtu: record.network.mtu,
      }),
  };
}

export function originControl(wiring: DockerWiring): OriginControl {
  const { engine, initProgram, clock } = wiring;
  return {
    async inspect(ref, pairId, address, recorded) {
      const inspect = await engine.inspect(ref);
      const about = { pairId, role: "primary", address, recorded } as const;
      const spec = protectedSpec(inspect, { ...wiring, ...about });
      return {
        id: inspect.Id,
        name: containerName(inspect),
        image: inspect.Config.Image,
        imageId: inspect.Image,
        containerSpec: spec as unknown as Record<string, unknown>,
        plainSpec: plainSpec(inspect) as unknown as Record<string, unknown>,
      };
    },
    async replace(origin, tell) {
      const original = await engine.inspect(origin.id);
      const spec = specForHost(origin.containerSpec as unknown as ContainerSpec, {
        ...wiring,
        role: "primary",
      });
      if (isRecorded(spec)) {
        await mkdir(wiring.logFolder(spec.Labels[label.pair] ?? ""), {
          recursive: true,
          mode: 0o755,
        });
      }
      const { running, rollback } = await protectContainer(original, spec, {
        engine,
        initProgram,
        clock,
        progress: tell,
      });
      const subject = `container ${origin.name}`;
      return { containerId: running.id, undo: () => rollback.unwind(subject) };
    },
    remove: (containerId) => engine.remove(containerId),
    async makePlain(containerId, plain, originalId) {
      const options = { engine, clock };
      const spec = plain as unknown as ContainerSpec;
      return (await unprotectContainer(containerId, spec, originalId, options)).id;
    },
  };
}
