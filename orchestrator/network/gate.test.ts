import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../clock.js";
import type { FtError } from "../errors/error.js";
import { Gate, type GateOptions, gateArguments } from "./gate.js";
import { interfaceCommands } from "./interface.js";
import type { LineEvent } from "./line-client.js";

let dir = "";
let options: GateOptions;
let server: Server | undefined;
const sockets: Socket[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "gate-test-"));
  options = {
    pair: "0123456789ab",
    program: join(dir, "ftgate"),
    controlSocket: join(dir, "gate.sock"),
    logFile: join(dir, "gate.log"),
    containerInterface: "eth0",
    lanInterface: "ft0123456789ab",
    uplink: "br0",
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    keyFile: join(dir, "key"),
    heartbeat: { local: "10.0.0.1", peer: "10.0.0.2", port: 7400, intervalMs: 30, missLimit: 3 },
    leaseMs: 60,
    heldBytesMax: 1 << 20,
    queuedBytesMax: 1 << 20,
    generation: 4,
    clock: systemClock,
  };
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server?.close();
  server = undefined;
  await rm(dir, { recursive: true });
});

const HELLO =
  "ok program=ftgate protocol=1 pid=9 pair=0123456789ab mode=hold generation=4 epoch=7 committed=6";

/** A gate that answers from a table and remembers what it was asked. */
async function fakeGate(answers: Record<string, string>): Promise<string[]> {
  const asked: string[] = [];
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on("data", (chunk) => {
      for (const line of chunk.toString().trimEnd().split("\n")) {
        asked.push(line);
        socket.write(`${{ hello: HELLO, ...answers }[line.split(" ")[0]!] ?? "ok"}\n`);
      }
    });
  });
  await new Promise<void>((resolve) => server!.listen(options.controlSocket, resolve));
  return asked;
}

const failing = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: FtError) => error,
  );

describe("Gate", () => {
  it("adopts the gate that runs and ties it to the present container", async () => {
    const asked = await fakeGate({});
    const { gate, adopted } = await Gate.open(options, 4321);
    expect(adopted).toBe(true);
    expect(asked).toEqual(["hello", "attach pid=4321"]);
    gate.release();
  });

  it("refuses the gate of another pair, and another protocol", async () => {
    await fakeGate({ hello: HELLO.replace("0123456789ab", "ffffffffffff") });
    expect((await failing(Gate.open(options, 1)))?.message).toContain("ffffffffffff");
    server?.close();
    await rm(options.controlSocket, { force: true });
    await fakeGate({ hello: HELLO.replace("protocol=1", "protocol=2") });
    expect((await failing(Gate.open(options, 1)))?.code).toBe("VERSION_MISMATCH");
  });

  it("says at once why a gate did not start", async () => {
    await writeFile(
      options.program,
      "#!/bin/sh\necho 'fail code=uplink errno=19 detail=br0:%20bridge:%20No%20such%20device' >&2\nexit 1\n",
      { mode: 0o755 },
    );
    const error = await failing(Gate.open(options, 1));
    expect(error?.code).toBe("GATE_NOT_STARTED");
    expect(error?.message).toContain("status 1");
    expect(error?.quoted.join()).toContain("br0: bridge: No such device");
    options.program = join(dir, "missing");
    expect((await failing(Gate.open(options, 1)))?.message).toContain("could not be run");
  });

  it("says why one did not start that had taken the call already", async () => {
    const script = `#!${process.execPath}
      const path = process.argv[process.argv.indexOf("--control") + 1];
      require("node:net").createServer(() => {
        console.error("fail code=uplink detail=br0%20is%20no%20bridge");
        process.exit(1);
      }).listen(path);`;
    await writeFile(options.program, script, { mode: 0o755 });
    const error = await failing(Gate.open(options, 1));
    expect(error?.code).toBe("GATE_NOT_STARTED");
    expect(error?.quoted.join()).toContain("br0 is no bridge");
  });

  it("speaks the verbs and reads the numbers", async () => {
    const asked = await fakeGate({
      commit: "ok epoch=7 released_frames=3 released_bytes=180 held_frames=1 held_bytes=60",
      stats:
        "ok mode=hold generation=4 epoch=8 committed=7 held_frames=1 held_bytes=60 held_oldest_us=1500 " +
        "lease_fresh=1 delay_count=3 delay_us_avg=30 delay_us_p50=31 delay_us_p99=45 delay_us_max=46",
    });
    const { gate } = await Gate.open(options, 0);
    await gate.mode("hold", 4, 8);
    await gate.mode("open", 5);
    expect(await gate.commit(7)).toEqual({ frames: 3, bytes: 180, heldFrames: 1 });
    await gate.beat({ app: "running", lan: true, epoch: 8 });
    await gate.garp("10.0.0.5", 3);
    expect(await gate.stats()).toMatchObject({
      mode: "hold",
      heldOldestUs: 1500,
      leaseFresh: true,
      delayUs: { count: 3, p99: 45 },
    });
    expect(asked).toEqual([
      "hello",
      "mode name=hold generation=4 epoch=8",
      "mode name=open generation=5",
      "commit epoch=7",
      "beat agent=1 app=running lan=1 epoch=8",
      "garp ip=10.0.0.5 count=3",
      "stats",
    ]);
    gate.release();
  });

  it("passes events on, and tells once that the gate is gone", async () => {
    await fakeGate({});
    const { gate } = await Gate.open(options, 0);
    const events: LineEvent[] = [];
    gate.on("event", (event) => events.push(event));
    const gone = new Promise<string>((resolve) => gate.once("gone", resolve));
    await gate.subscribe();
    sockets[0]!.write("event held epoch=8\n");
    await expect.poll(() => events.length).toBe(1);
    expect(events[0]?.fields.number("epoch")).toBe(8);
    sockets[0]!.destroy();
    await gone;
    expect((await failing(gate.stats()))?.code).toBe("CONTROL_CLOSED");
  });
});

describe("what the programs are told", () => {
  it("gives ftgate every option once", () => {
    const given = gateArguments(options, 77);
    expect(new Set(given.filter((word) => word.startsWith("--"))).size).toBe(given.length / 2);
    expect(given.join(" ")).toContain(
      "--heartbeat-local 10.0.0.1:7400 --heartbeat-peer 10.0.0.2:7400",
    );
    expect(given.join(" ")).toContain("--netns-pid 77");
  });

  it("encrypts the event log's link unless the policy says that the wire is nobody else's", () => {
    const flag = (ship: GateOptions["ship"]) =>
      gateArguments(ship ? { ...options, ship } : options, 77).includes("--ship-plain");
    expect(flag(undefined)).toBe(false);
    expect(flag({ port: 7400, encrypted: true })).toBe(false);
    expect(flag({ port: 7400, encrypted: false })).toBe(true);
  });

  it("configures an interface so that doing it again changes nothing", () => {
    const setup = { pid: 1, name: "eth0", address: "10.0.0.5/24", gateway: "10.0.0.1", mtu: 1400 };
    expect(interfaceCommands(setup)).toEqual([
      "link set lo up",
      "link set eth0 mtu 1400 up",
      "ntable change name arp_cache dev eth0 queue 30000",
      "address replace 10.0.0.5/24 dev eth0 noprefixroute",
      "route replace 10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.5",
      "route replace default via 10.0.0.1 dev eth0",
    ]);
    expect(interfaceCommands({ ...setup, gateway: undefined }).join()).not.toContain("default");
    const wide = interfaceCommands({ ...setup, initialWindowSegments: 10_000 });
    expect(wide.filter((line) => line.endsWith("initcwnd 10000"))).toHaveLength(2);
  });
});
