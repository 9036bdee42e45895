import { connect, type Socket } from "node:net";
import { afterAll, it } from "vitest";
import { limits } from "../limits.js";
import { bookOf, Folders, makeAuthority, makeHost, peerOf, quiet, until } from "./test-cluster.js";
import { connectToPeer, listenForPeers } from "./tls-listener.js";

const folders = new Folders();
afterAll(() => folders.remove());

it("a crowd that never finishes its handshake is cut off, and then peers get in", async () => {
  const alpha = await makeAuthority(folders, "alpha");
  const beta = await makeHost(folders, alpha, "beta");
  let admitted = 0;
  const listener = await listenForPeers({
    identity: beta.identity,
    peers: bookOf(beta, [peerOf("alpha")]),
    address: "127.0.0.1",
    port: 0,
    log: quiet,
    handshakeTimeoutMs: 200,
    onPeer: () => {
      admitted += 1;
    },
  });
  const crowd: Socket[] = [];
  try {
    for (let n = 0; n < limits.linkConnectionsMax + 20; n += 1) {
      const socket = connect(listener.port, "127.0.0.1", () => void socket.write("\x16\x03\x01"));
      socket.on("error", () => {});
      socket.resume();
      crowd.push(socket);
    }
    await until(() => crowd.every((socket) => socket.closed));
    const socket = await connectToPeer({
      identity: alpha.identity,
      peer: peerOf("beta"),
      port: listener.port,
      timeoutMs: 2_000,
    });
    await until(() => admitted === 1);
    socket.destroy();
  } finally {
    await listener.close();
  }
});
