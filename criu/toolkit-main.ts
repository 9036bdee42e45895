/** `node dist/criu/toolkit-main.js DIR`: puts the CRIU toolkit into DIR, unless it is there and intact. */
import { asFtError } from "../orchestrator/errors/error.js";
import { installToolkit } from "./toolkit.js";

const say = (line: string) => process.stderr.write(`${line}\n`);

async function main(dir: string | undefined): Promise<number> {
  if (dir === undefined || dir.startsWith("-")) {
    say("usage: toolkit-main DIR");
    return 2;
  }
  const result = await installToolkit(dir, say);
  for (const warning of result.warnings) say(`warning: ${warning}`);
  say(`CRIU ${result.manifest.criuVersion} ${result.fetched ? "installed in" : "is in"} ${dir}`);
  return 0;
}

try {
  process.exitCode = await main(process.argv[2]);
} catch (thrown) {
  const error = asFtError(thrown, "CRIU toolkit");
  say(`${error.subject}: ${error.message} (${error.code})`);
  for (const line of error.quoted) say(`  | ${line}`);
  if (error.hint !== undefined) say(`  ${error.hint}`);
  process.exitCode = error.exitCode;
}
