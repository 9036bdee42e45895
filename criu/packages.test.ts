import { describe, expect, it } from "vitest";
import {
  archiveName,
  fakeStatus,
  ownSources,
  parseSimulation,
  parseTargets,
  suiteSources,
} from "./packages.js";

const targets = [
  "http://mirror/debian/\tDebian\tDebian\tmain\tbookworm",
  "http://mirror/debian/\tDebian\tDebian\tcontrib\tbookworm",
  "http://mirror/debian/\tDebian\tDebian\tmain\tbookworm-updates",
  "http://mirror/debian-security/\tDebian\tDebian-Security\tmain\tbookworm-security",
  "https://third.party/apt/\tThird Party\tDebian\tmain\tforky",
  "https://other.party/apt/\t\t\tmain\tnodistro",
  "",
].join("\n");

describe("sources", () => {
  it("are Debian's own main component and nothing else", () => {
    expect(ownSources(parseTargets(targets))).toEqual([
      { uri: "http://mirror/debian/", suite: "bookworm" },
      { uri: "http://mirror/debian/", suite: "bookworm-updates" },
      { uri: "http://mirror/debian-security/", suite: "bookworm-security" },
    ]);
  });

  it("offer another suite only on mirrors of the whole archive, each once", () => {
    expect(suiteSources(parseTargets(targets), "forky")).toEqual([
      { uri: "http://mirror/debian/", suite: "forky" },
    ]);
  });

  it("are none on a machine whose lists were never fetched", () => {
    expect(parseTargets("http://mirror/debian/\t\t\tmain\tbookworm\n")).toEqual([]);
  });
});

describe("closure", () => {
  it("is read from apt's simulation", () => {
    const text = [
      "NOTE: This is only a simulation!",
      "Inst libc6 (2.36-9+deb12u14 Debian:12.9/oldstable, Debian-Security:12 [amd64])",
      "Inst tzdata [2024a] (2025b-0 Debian:12/oldstable [all]) []",
      "Inst redis-server:amd64 (5:7.0.15-1 Debian:12/oldstable [amd64])",
      "Conf libc6 (2.36-9+deb12u14 Debian:12.9/oldstable [amd64])",
    ].join("\n");
    expect(parseSimulation(text)).toEqual([
      { name: "libc6", version: "2.36-9+deb12u14", architecture: "amd64" },
      { name: "tzdata", version: "2025b-0", architecture: "all" },
      { name: "redis-server", version: "5:7.0.15-1", architecture: "amd64" },
    ]);
  });

  it("is stored under apt's file names", () => {
    const named = { name: "redis-server", version: "5:7.0.15-1", architecture: "amd64" };
    expect(archiveName(named)).toBe("redis-server_5%3a7.0.15-1_amd64.deb");
  });

  it("leaves out what is taken as installed", () => {
    const status = fakeStatus(["perl", "dpkg"], "amd64");
    expect(status.match(/^Package: (perl|dpkg)$/gm)).toHaveLength(2);
    expect(
      status.split("\n\n").every((entry) => /^Status: install ok installed$/m.test(entry)),
    ).toBe(true);
    expect(fakeStatus([], "amd64")).toBe("");
  });
});
