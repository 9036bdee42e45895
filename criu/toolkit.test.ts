import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sha256Of } from "./packages.js";
import { atLeast, installToolkit, parseNeeded, readPin, verifyToolkit } from "./toolkit.js";

let dir: string;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "toolkit-test-"));
  mkdirSync(join(dir, "lib"));
  const paths = ["ld.so", "criu", "lib/libc.so.6"];
  for (const path of paths) writeFileSync(join(dir, path), `content of ${path}`, { mode: 0o755 });
  const files = [];
  for (const path of paths) files.push({ path, sha256: await sha256Of(join(dir, path)) });
  const manifest = {
    ...{ version: 1, suite: "forky", architecture: "amd64", criuVersion: "4.2.1-1", packages: [] },
    files,
  };
  writeFileSync(join(dir, "manifest.json"), JSON.stringify(manifest));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("an installed toolkit", () => {
  it("is verified file by file", async () => {
    expect((await verifyToolkit(dir)).criuVersion).toBe("4.2.1-1");
  });

  it("is left alone when intact, without any package being fetched", async () => {
    const result = await installToolkit(dir, () => {
      throw new Error("wanted to fetch");
    });
    expect(result.fetched).toBe(false);
  });

  it("is damaged when a byte of it changed", async () => {
    writeFileSync(join(dir, "lib/libc.so.6"), "content of lib/libc.so.7");
    await expect(verifyToolkit(dir)).rejects.toMatchObject({ code: "TOOLKIT_DAMAGED" });
  });

  it("is damaged when a file is missing or cannot be executed", async () => {
    chmodSync(join(dir, "criu"), 0o644);
    await expect(verifyToolkit(dir)).rejects.toThrowError(/not executable/);
    rmSync(join(dir, "criu"));
    await expect(verifyToolkit(dir)).rejects.toThrowError(/lacks criu/);
  });

  it.each(["", "{}", '{"version":2}'])("is damaged when its manifest is %j", async (text) => {
    writeFileSync(join(dir, "manifest.json"), text);
    await expect(verifyToolkit(dir)).rejects.toThrowError(/no readable manifest/);
  });
});

describe("versions", () => {
  it.each([
    ["4.2.1", "4.2", true],
    ["4.2", "4.2", true],
    ["5.0", "4.2", true],
    ["4.10", "4.2", true],
    ["4.1.1", "4.2", false],
    ["3.17.1", "4.2", false],
  ])("%s is at least %s: %s", (version, minimum, expected) => {
    expect(atLeast(version, minimum)).toBe(expected);
  });

  it("tested are recorded, and not below the minimum", () => {
    const pin = readPin();
    expect(Object.keys(pin.tested)).not.toHaveLength(0);
    for (const version of Object.values(pin.tested)) {
      expect(atLeast(version, pin.criuMinimum)).toBe(true);
    }
  });
});

describe("the loader's list", () => {
  it("gives the files, without the kernel's own", () => {
    const text = [
      "\tlinux-vdso.so.1 (0x00007ffd)",
      "\tlibc.so.6 => /r/usr/lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
      "\t/lib64/ld-linux-x86-64.so.2 => /r/ld-linux-x86-64.so.2 (0x00007f)",
    ].join("\n");
    expect(parseNeeded(text)).toEqual([
      "/r/usr/lib/x86_64-linux-gnu/libc.so.6",
      "/r/ld-linux-x86-64.so.2",
    ]);
  });

  it("is refused when a library is missing", () => {
    expect(() => parseNeeded("\tlibnl.so => not found")).toThrowError(/missing/);
  });
});
