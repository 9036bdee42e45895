/** The program as it is shipped, but built from the sources as they are now: tests never meet a stale `dist`. */
import { cp, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");

/** Returns the folder; `main` in it is what `bin/ftctl` runs. The caller removes it. */
export async function buildProgram(): Promise<{ dir: string; main: string }> {
  const dir = await mkdtemp(join(tmpdir(), "ftctl-built-"));
  for (const part of ["orchestrator", "criu", "policies"]) {
    const names = await readdir(join(root, part), { recursive: true });
    await Promise.all(
      names.filter((name) => !/\.test\.ts$/.test(name)).map((name) => buildFile(part, name, dir)),
    );
  }
  await cp(join(root, "package.json"), join(dir, "package.json"));
  await symlink(join(root, "node_modules"), join(dir, "node_modules"));
  return { dir, main: join(dir, "dist/orchestrator/cli/main.js") };
}

async function buildFile(part: string, name: string, dir: string): Promise<void> {
  const source = join(root, part, name);
  if (name.endsWith(".yaml")) {
    await mkdir(dirname(join(dir, part, name)), { recursive: true });
    return cp(source, join(dir, part, name));
  }
  if (!name.endsWith(".ts")) return;
  const target = join(dir, "dist", part, name.replace(/\.ts$/, ".js"));
  await mkdir(dirname(target), { recursive: true });
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023 };
  const text = await readFile(source, "utf8");
  await writeFile(target, ts.transpileModule(text, { compilerOptions }).outputText);
}
