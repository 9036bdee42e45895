/** The program `ftctl`; see run.ts. */
import { systemClock } from "../clock.js";
import { realCluster } from "./cluster.js";
import { runCli } from "./run.js";

const interrupt = new AbortController();
// A second signal ends the process at once, as it would without a handler.
for (const name of ["SIGINT", "SIGTERM"] as const) {
  process.once(name, () => interrupt.abort(new Error(`ended by ${name}`)));
}
// The reader of a pipe has seen enough (`ftctl events -f | head`): that is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

const { stdin, stdout, stderr, env } = process;
const code = await runCli(process.argv.slice(2), {
  io: { stdin, stdout, stderr, env },
  clock: systemClock,
  cluster: realCluster,
  interrupt: interrupt.signal,
});
// Output is written by now; nothing still open (a terminal, a socket given up) may keep the program alive.
process.exit(code);
