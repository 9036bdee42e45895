import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { runtimeOf, unrecordable } from "./runtime.js";

const folder = await mkdtemp(join(tmpdir(), "runtime-"));
afterAll(() => rm(folder, { recursive: true }));

/** A program's file: an interpreter, sections by name. */
function elf(interpreter: string | undefined, sections: string[] = []): Buffer {
  const file = Buffer.alloc(4096);
  file.write("\x7fELF\x02\x01\x01", 0, "latin1");
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(interpreter === undefined ? 0 : 1, 56);
  if (interpreter !== undefined) {
    file.writeUInt32LE(3, 64);
    file.writeBigUInt64LE(512n, 64 + 8);
    file.writeBigUInt64LE(BigInt(interpreter.length + 1), 64 + 32);
    file.write(interpreter, 512);
  }
  const names = ["", ...sections, ".shstrtab"];
  file.writeBigUInt64LE(1024n, 40);
  file.writeUInt16LE(64, 58);
  file.writeUInt16LE(names.length, 60);
  file.writeUInt16LE(names.length - 1, 62);
  let at = 2048;
  names.forEach((name, i) => {
    file.writeUInt32LE(at - 2048, 1024 + i * 64);
    file.write(`${name}\0`, at);
    at += name.length + 1;
  });
  const last = 1024 + (names.length - 1) * 64;
  file.writeBigUInt64LE(2048n, last + 24);
  file.writeBigUInt64LE(BigInt(at - 2048), last + 32);
  return file;
}

async function runtime(bytes: Buffer | string, maps = ""): Promise<string> {
  const path = join(folder, "program");
  await writeFile(path, bytes);
  return runtimeOf(path, maps);
}

const GLIBC = "/lib64/ld-linux-x86-64.so.2";
const MUSL = "/lib/ld-musl-x86_64.so.1";

describe("a program's runtime", () => {
  it("is told by its interpreter and its sections", async () => {
    expect(await runtime(elf(GLIBC))).toBe("glibc");
    expect(await runtime(elf(MUSL))).toBe("musl");
    expect(await runtime(elf(undefined))).toBe("static");
    expect(await runtime(elf(undefined, [".text", ".go.buildinfo"]))).toBe("go");
    expect(await runtime(elf(GLIBC, [".gopclntab"]))).toBe("go");
  });

  it("is too old by the C library that it has mapped", async () => {
    const mapping = (name: string) => `7f00-7f01 r-xp 0 08:01 1 /lib/x86_64-linux-gnu/${name}\n`;
    expect(await runtime(elf(GLIBC), mapping("libc-2.28.so"))).toBe("glibc-old");
    expect(await runtime(elf(GLIBC), mapping("libc-2.31.so"))).toBe("glibc");
    expect(await runtime(elf(GLIBC), mapping("libc.so.6"))).toBe("glibc");
  });

  it("is not known of what is no program, is damaged or has gone", async () => {
    expect(await runtime("#!/bin/sh\n")).toBe("unknown");
    expect(await runtimeOf(join(folder, "nothing"), "")).toBe("unknown");
    const damaged = elf(GLIBC, [".text"]);
    damaged.writeBigUInt64LE(2n ** 60n, 40);
    expect(["unknown", "glibc"]).toContain(await runtime(damaged));
    damaged.writeUInt16LE(65_535, 56);
    damaged.writeUInt16LE(65_535, 60);
    expect(["unknown", "glibc"]).toContain(await runtime(damaged));
  });

  it("is right of programs of this machine", async () => {
    const maps = await readFile("/proc/self/maps", "utf8");
    expect(await runtimeOf("/bin/ls", maps)).toBe("glibc");
    expect(unrecordable("glibc")).toBeUndefined();
    expect(unrecordable("unknown")).toBeUndefined();
  });
});
