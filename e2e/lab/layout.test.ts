import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HOSTS_MAX, labLayout, labNameFrom } from "./layout.js";
import { cableBatch, cablesOf, hostBatch } from "./network.js";

describe("layout", () => {
  it("names and numbers hosts in order", () => {
    const { hosts, root, clientAddress } = labLayout("ftlab", ["alpha", "beta"], {});
    expect(root).toBe("/var/lib/ftlab");
    expect(clientAddress).toBe("10.77.0.10");
    expect(hosts.map((host) => [host.netns, host.lanAddress, host.replicationAddress])).toEqual([
      ["ftlab-alpha", "10.77.0.1", "10.78.0.1"],
      ["ftlab-beta", "10.77.0.2", "10.78.0.2"],
    ]);
  });

  it("gives no two hosts of any lab the same name, address or cable", () => {
    const name = fc
      .stringMatching(/^[a-z][a-z0-9]{0,10}$/)
      .filter((n) => n !== "lan" && n !== "client");
    const names = fc.uniqueArray(name, { minLength: 1, maxLength: HOSTS_MAX });
    fc.assert(
      fc.property(names, (given) => {
        const { hosts, lanNetns, clientNetns, clientAddress } = labLayout("ftlab", given, {});
        const unique = [
          ...hosts.flatMap((h) => [
            h.lanAddress,
            h.replicationAddress,
            h.lanCable,
            h.replicationCable,
          ]),
          ...hosts.flatMap((h) => [h.netns, h.bridgeMac]),
          ...[lanNetns, clientNetns, clientAddress],
        ];
        expect(new Set(unique).size).toBe(unique.length);
        // The kernel takes no longer name for an interface.
        for (const h of hosts) expect(h.replicationCable.length).toBeLessThanOrEqual(15);
      }),
    );
  });

  it.each([["a b"], ["Alpha"], ["lan"], ["client"], ["twelveletter"], ["../x"], [""]])(
    "refuses the host name %j",
    (bad) => {
      expect(() => labLayout("ftlab", [bad], {})).toThrowError(/host's name/);
    },
  );

  it("refuses two hosts of one name, and too many", () => {
    expect(() => labLayout("ftlab", ["a", "a"], {})).toThrowError(/same name/);
    const many = Array.from({ length: HOSTS_MAX + 1 }, (_, i) => `h${i}`);
    expect(() => labLayout("ftlab", many, {})).toThrowError(/at most/);
  });

  it("takes the lab's name from the environment, and refuses one that is a path", () => {
    expect(labNameFrom({})).toBe("ftlab");
    expect(labNameFrom({ FTLAB_NAME: "mine" })).toBe("mine");
    expect(() => labNameFrom({ FTLAB_NAME: "../etc" })).toThrowError(/lab's name/);
  });
});

describe("cables", () => {
  const host = labLayout("ftlab", ["alpha"], {}).hosts[0]!;

  it("end in the host's namespace and are plugged into the two switches", () => {
    expect(cableBatch(host)).toEqual([
      "link add alpha-lan type veth peer name lan0 netns ftlab-alpha",
      "link add alpha-rep type veth peer name rep0 netns ftlab-alpha",
      "link set alpha-lan master lan up",
      "link set alpha-rep master rep up",
    ]);
  });

  it("carry the LAN into the host's own bridge and replication past it", () => {
    expect(hostBatch(host)).toContain("link set lan0 master br0 up");
    expect(hostBatch(host)).toContain("addr add 10.77.0.1/24 dev br0");
    expect(hostBatch(host)).toContain("addr add 10.78.0.1/24 dev rep0");
  });

  it("are cut one by one or both", () => {
    expect(cablesOf(host, ["replication"])).toEqual(["alpha-rep"]);
    expect(cablesOf(host, ["lan", "replication"])).toEqual(["alpha-lan", "alpha-rep"]);
  });
});
