/**
 * One host's Docker, through its socket. Every call is bounded and every failure is an `FtError` that names the
 * host and the container. Never used inside an epoch.
 */
import type { Readable } from "node:stream";
import Dockerode from "dockerode";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { dockerError, dockerTimeout } from "./docker-errors.js";
import type { ContainerInspect, ContainerSpec } from "./docker-types.js";

export interface DockerVersion {
  version: string;
  apiVersion: string;
  kernel: string;
  arch: string;
}

export interface DockerInfo {
  storageDriver: string;
  backingFilesystem: string;
  rootDir: string;
  cgroupVersion: string;
  cgroupDriver: string;
  securityOptions: string[];
  liveRestore: boolean;
}

export interface ImageSummary {
  id: string;
  tags: string[];
  bytes: number;
}

export interface ContainerSummary {
  id: string;
  name: string;
  labels: Record<string, string>;
  running: boolean;
}

export interface EngineOptions {
  host: string;
  timeoutMs?: number;
}

export class Engine {
  readonly host: string;
  readonly #docker: Dockerode;
  readonly #timeoutMs: number;

  constructor(docker: Dockerode, options: EngineOptions) {
    this.host = options.host;
    this.#docker = docker;
    this.#timeoutMs = options.timeoutMs ?? limits.dockerCallTimeoutMs;
  }

  static at(socketPath: string, options: EngineOptions): Engine {
    return new Engine(new Dockerode({ socketPath }), options);
  }

  async version(): Promise<DockerVersion> {
    const v = await this.#call("ask Docker's version", `host ${this.host}`, () =>
      this.#docker.version(),
    );
    return { version: v.Version, apiVersion: v.ApiVersion, kernel: v.KernelVersion, arch: v.Arch };
  }

  async info(): Promise<DockerInfo> {
    const info = await this.#call("ask Docker's state", `host ${this.host}`, () =>
      this.#docker.info(),
    );
    const status = new Map<string, string>(info.DriverStatus ?? []);
    return {
      storageDriver: info.Driver,
      backingFilesystem: status.get("Backing Filesystem") ?? "",
      rootDir: info.DockerRootDir,
      cgroupVersion: info.CgroupVersion ?? "1",
      cgroupDriver: info.CgroupDriver ?? "",
      securityOptions: info.SecurityOptions ?? [],
      liveRestore: info.LiveRestoreEnabled === true,
    };
  }

  /** By name, id or id prefix. */
  async inspect(ref: string): Promise<ContainerInspect> {
    const found = await this.#onContainer(ref, "look at the container", (c) => c.inspect());
    return found as unknown as ContainerInspect;
  }

  /** `undefined` if there is none; any other failure is thrown. */
  async find(ref: string): Promise<ContainerInspect | undefined> {
    try {
      return await this.inspect(ref);
    } catch (error) {
      if (error instanceof FtError && error.code === "CONTAINER_NOT_FOUND") return undefined;
      throw error;
    }
  }

  /** All containers, stopped ones too; with `label`, only those that carry it. */
  async list(label?: string): Promise<ContainerSummary[]> {
    const filters: Record<string, string[]> = label === undefined ? {} : { label: [label] };
    const found = await this.#call("list the containers", `host ${this.host}`, () =>
      this.#docker.listContainers({ all: true, filters }),
    );
    return found.map((c) => ({
      id: c.Id,
      name: (c.Names[0] ?? "").replace(/^\//, ""),
      labels: c.Labels,
      running: c.State === "running",
    }));
  }

  /** Returns the new container's id. */
  async create(spec: ContainerSpec): Promise<string> {
    const container = await this.#call("create the container", this.#subject(spec.name), () =>
      this.#docker.createContainer(spec as unknown as Dockerode.ContainerCreateOptions),
    );
    return container.id;
  }

  async start(ref: string): Promise<void> {
    await this.#onContainer(ref, "start the container", (c) => unlessAlready(c.start()));
  }

  /** Asks the application to stop, and kills it after `graceSeconds`. */
  async stop(ref: string, graceSeconds: number = limits.dockerStopTimeoutSeconds): Promise<void> {
    await this.#onContainer(
      ref,
      "stop the container",
      (c) => unlessAlready(c.stop({ t: graceSeconds })),
      this.#timeoutMs + graceSeconds * 1000,
    );
  }

  async kill(ref: string): Promise<void> {
    await this.#onContainer(ref, "kill the container", (c) => c.kill());
  }

  async rename(ref: string, name: string): Promise<void> {
    await this.#onContainer(ref, `rename the container to ${name}`, (c) => c.rename({ name }));
  }

  async setRestartPolicy(
    ref: string,
    policy: { Name: string; MaximumRetryCount?: number },
  ): Promise<void> {
    await this.#onContainer(ref, "change the container's restart policy", (c) =>
      c.update({ RestartPolicy: policy }),
    );
  }

  /** Removes the container, running or not, and never its volumes. Nothing to do if it is gone already. */
  async remove(ref: string): Promise<void> {
    try {
      await this.#onContainer(ref, "remove the container", (c) =>
        c.remove({ force: true, v: false }),
      );
    } catch (error) {
      if (error instanceof FtError && error.code === "CONTAINER_NOT_FOUND") return;
      throw error;
    }
  }

  async image(ref: string): Promise<ImageSummary | undefined> {
    try {
      const image = await this.#call("look at the image", `image ${ref} on host ${this.host}`, () =>
        this.#docker.getImage(ref).inspect(),
      );
      return { id: image.Id, tags: image.RepoTags ?? [], bytes: image.Size };
    } catch (error) {
      if (error instanceof FtError && error.code === "IMAGE_NOT_FOUND") return undefined;
      throw error;
    }
  }

  /** The image as a tar stream; names given come back as tags where it is loaded. */
  async saveImage(names: string[]): Promise<Readable> {
    const subject = `image ${names[0] ?? ""} on host ${this.host}`;
    const stream = await this.#call("save the image", subject, () => this.#exportImages(names));
    return stream as Readable;
  }

  #exportImages(names: string[]): Promise<NodeJS.ReadableStream> {
    return new Promise((resolve, reject) => {
      const query = names.map((name) => `names=${encodeURIComponent(name)}`).join("&");
      const options = {
        path: `/images/get?${query}&`, // the client cuts off the last character
        method: "GET",
        isStream: true,
        statusCodes: { 200: true, 404: "no such image", 500: "server error" },
      };
      this.#docker.modem.dial(options, (error: unknown, answer: unknown) =>
        error ? reject(error) : resolve(answer as NodeJS.ReadableStream),
      );
    });
  }

  /** Returns what Docker said, a line each. The caller bounds the stream's own silence. */
  async loadImage(tar: Readable, abortSignal?: AbortSignal): Promise<string[]> {
    const subject = `host ${this.host}`;
    const options = { quiet: true, ...(abortSignal === undefined ? {} : { abortSignal }) };
    const answer = await this.#call(
      "load the image",
      subject,
      async () => readAll((await this.#docker.loadImage(tar, options)) as Readable),
      limits.imageTransferTimeoutMs,
    );
    const lines = answer.split("\n").filter((line) => line.trim() !== "");
    for (const line of lines) {
      const said = (JSON.parse(line) as { error?: string }).error;
      if (said !== undefined) throw dockerError(new Error(said), subject, "load the image");
    }
    return lines;
  }

  async hasNetwork(name: string): Promise<boolean> {
    const found = await this.#call("list the networks", `host ${this.host}`, () =>
      this.#docker.listNetworks({ filters: { name: [name] } }),
    );
    return found.some((network) => network.Name === name);
  }

  #subject(ref: string): string {
    return `container ${ref} on host ${this.host}`;
  }

  #onContainer<T>(
    ref: string,
    what: string,
    call: (container: Dockerode.Container) => Promise<T>,
    timeoutMs?: number,
  ): Promise<T> {
    const act = () => call(this.#docker.getContainer(ref));
    return this.#call(what, this.#subject(ref), act, timeoutMs);
  }

  async #call<T>(
    what: string,
    subject: string,
    call: () => Promise<T>,
    timeoutMs: number = this.#timeoutMs,
  ): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(dockerTimeout(subject, what, timeoutMs)), timeoutMs);
    });
    try {
      return await Promise.race([call(), late]);
    } catch (thrown) {
      throw dockerError(thrown, subject, what);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Docker answers 304 when a container is started or stopped already: that is what was wanted. */
async function unlessAlready(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode !== 304) throw error;
  }
}

const ANSWER_BYTES_MAX = 1 << 20;

async function readAll(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += (chunk as Buffer).length;
    if (bytes > ANSWER_BYTES_MAX) throw new Error("Docker's answer is too long");
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}
