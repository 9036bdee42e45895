/** Docker's answers, good and bad, from a server that speaks its API on a socket. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Engine } from "./engine.js";
import { Rollback } from "./rollback.js";

let folder: string;
let server: Server;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
const requests: string[] = [];

function say(status: number, body: unknown) {
  answer = (_request, response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(status === 304 || status === 204 ? undefined : JSON.stringify(body));
  };
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "k-engine-"));
  requests.length = 0;
  server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    request.resume();
    answer(request, response);
  }).listen(join(folder, "docker.sock"));
  await once(server, "listening");
});
afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true });
});

const engine = (timeoutMs = 2_000) =>
  Engine.at(join(folder, "docker.sock"), { host: "alpha", timeoutMs });

describe("the engine", () => {
  it.each([
    [404, "No such container: redis", "CONTAINER_NOT_FOUND", 3],
    [404, "Multiple IDs found with provided prefix: a", "CONTAINER_AMBIGUOUS", 2],
    [409, "Conflict. The container name is in use", "DOCKER_CONFLICT", 1],
    [500, "write /x: no space left on device", "DISK_FULL", 1],
    [500, "something else", "DOCKER_FAILED", 1],
  ])("turns %i %s into %s", async (status, message, code, exitCode) => {
    say(status, { message });
    const subject = "container redis on host alpha";
    await expect(engine().inspect("redis")).rejects.toMatchObject({ code, exitCode, subject });
  });

  it("takes a container that is started or stopped already for what was asked", async () => {
    say(304, undefined);
    await engine().start("redis");
    await engine().stop("redis");
    expect(requests).toHaveLength(2);
  });

  it("removes what is gone without complaint, and never volumes", async () => {
    say(404, { message: "No such container: redis" });
    await engine().remove("redis");
    expect(requests[0]).toContain("v=false");
  });

  it("does not wait for a Docker that hangs", async () => {
    answer = () => {};
    await expect(engine(50).version()).rejects.toMatchObject({
      code: "DOCKER_TIMEOUT",
      exitCode: 124,
    });
  });

  it("says that Docker is away", async () => {
    answer = (request) => request.socket.destroy();
    await expect(engine().version()).rejects.toMatchObject({ code: "DOCKER_UNREACHABLE" });
    const nowhere = Engine.at(join(folder, "missing.sock"), { host: "alpha" });
    await expect(nowhere.find("redis")).rejects.toMatchObject({ code: "DOCKER_UNREACHABLE" });
  });

  it("finds nothing where there is nothing, but does not hide other failures", async () => {
    say(404, { message: "No such container: redis" });
    expect(await engine().find("redis")).toBeUndefined();
    say(404, { message: "No such image: redis:7" });
    expect(await engine().image("redis:7")).toBeUndefined();
    say(500, { message: "broken" });
    await expect(engine().find("redis")).rejects.toMatchObject({ code: "DOCKER_FAILED" });
  });
});

describe("a rollback", () => {
  it("undoes the last first, all of it, and throws what went wrong", async () => {
    const undone: string[] = [];
    const rollback = new Rollback();
    const work = rollback.guard("container redis", async () => {
      rollback.add("undo one", async () => void undone.push("one"));
      rollback.add("undo two", async () => {
        undone.push("two");
        throw new Error("no");
      });
      rollback.add("undo three", async () => void undone.push("three"));
      throw new Error("the cause");
    });
    await expect(work).rejects.toMatchObject({
      message: "the cause; and could not undo two",
      quoted: ["no"],
    });
    expect(undone).toEqual(["three", "two", "one"]);
    await rollback.unwind("container redis");
    expect(undone).toHaveLength(3);
  });

  it("does nothing when the work succeeds, until it is asked", async () => {
    const rollback = new Rollback();
    let undone = 0;
    rollback.add("undo", async () => {
      undone += 1;
    });
    expect(await rollback.guard("x", async () => 7)).toBe(7);
    expect(undone).toBe(0);
    await rollback.unwind("x");
    expect(undone).toBe(1);
  });
});
