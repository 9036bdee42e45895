/** The container's interface on a real kernel, in network namespaces of its own. Needs root. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../clock.js";
import { configureInterface } from "./interface.js";

/** From many sockets, as one may have no more than its buffer's worth under way. */
const sockets = 20;
const datagrams = 30;
const sender = `
const dgram = require("node:dgram");
for (let i = 0; i < ${sockets}; i += 1) {
  const socket = dgram.createSocket("udp4");
  for (let j = 0; j < ${datagrams}; j += 1) socket.send(Buffer.alloc(1400), 9, "10.0.0.9");
}
setTimeout(() => process.exit(), 500);`;

describe.skipIf(process.getuid?.() !== 0)("the container's interface", () => {
  let box: ChildProcess;
  let client: ChildProcess;

  const holder = async () => {
    const child = spawn("unshare", ["--net", "sleep", "60"], { stdio: "ignore" });
    for (let i = 0; i < 500; i += 1) {
      if ((await readFile(`/proc/${child.pid}/comm`, "utf8").catch(() => "")) === "sleep\n") break;
      await systemClock.sleep(10);
    }
    return child;
  };
  const inside = (place: ChildProcess, ...command: string[]) =>
    execa("nsenter", [`--net=/proc/${place.pid}/ns/net`, ...command]);

  beforeAll(async () => {
    box = await holder();
    client = await holder();
    const pair = ["eth0", "type", "veth", "peer", "name", "eth0", "netns", `${client.pid}`];
    await inside(box, "ip", "link", "add", ...pair);
    await inside(client, "ip", "link", "set", "eth0", "up");
  });
  afterAll(() => {
    box?.kill("SIGKILL");
    client?.kill("SIGKILL");
  });

  it("keeps what is sent to somebody whose hardware address is not known yet", async () => {
    const setup = { name: "eth0", address: "10.0.0.5/24", gateway: undefined, mtu: 1500 };
    await configureInterface({ ...setup, pid: box.pid! });
    await inside(box, process.execPath, "-e", sender);
    await inside(client, "ip", "address", "add", "10.0.0.9/24", "dev", "eth0");
    const received = async () => {
      const { stdout } = await inside(client, "ip", "-s", "-j", "link", "show", "eth0");
      return JSON.parse(stdout)[0].stats64.rx.bytes as number;
    };
    await expect.poll(received, { timeout: 5_000 }).toBeGreaterThan(sockets * datagrams * 1400);
  }, 20_000);
});
