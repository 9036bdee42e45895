/**
 * A client that waits too long for an answer is looked at while it waits: afterwards everything has been torn down. Takes
 * what both ends, the gates and the recorder know of its connection into e2e/out/<scenario>-silent-<n>/.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ClientProcess } from "../clients/client-process.js";
import type { Waiting } from "../clients/report.js";
import { checkoutRoot } from "../lab/layout.js";
import type { Host, Hosts } from "./hosts.js";
import { outFolder } from "./workloads.js";

/** More than an outage takes, less than a retransmission time-out that has doubled a few times. */
const silenceUsMax = 2_000_000;
const takesMax = 3;
const perCommandMs = 10_000;

const build = (program: string) => join(checkoutRoot(), "build/bin", program);

const gateStats =
  'const s=require("net").connect(process.argv[1]);s.write("stats\\n");s.on("data",(d)=>console.log(String(d)));setTimeout(()=>process.exit(),300)';

/** Of each container: sockets with timers and TCP's own account, what each thread waits in; of each gate: its figures. */
const onHost = `
for p in $(docker ps -q | xargs -r docker inspect -f '{{.State.Pid}}'); do
  echo "== container, pid $p"; nsenter -t $p -n ss -tinope; nsenter -t $p -n nstat -asz 2>/dev/null | grep -v ' 0 '
  for q in $(pgrep --ns $p --nslist pid); do
    for t in /proc/$q/task/*; do
      echo "-- $t $(cat $t/comm) wchan=$(cat $t/wchan) syscall=$(cat $t/syscall)"; cat $t/stack 2>/dev/null | head -5
    done
    for f in /proc/$q/fdinfo/*; do grep -H tfd $f; done 2>/dev/null
  done
done
for s in /run/ftctl/pairs/*/gate.sock; do echo "== $s"; timeout 2 ${process.execPath} -e '${gateStats}' $s 2>&1; done
for log in /run/ftctl/pairs/*/log/events; do
  [ -f "$log" ] || continue
  echo "== $log"; ${build("ftlog")} report "$log"; ${build("ftlog")} stats "$log"
  ${build("ftlog")} dump "$log" | tail -400
done 2>&1; true`;

async function look(hosts: Hosts, folder: string, waiting: Waiting): Promise<void> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "waiting.json"), `${JSON.stringify(waiting)}\n`);
  const ask = async (where: Host | "client", argv: string[]) => {
    const result = await hosts.exec(where, argv, perCommandMs).catch((error: unknown) => ({
      stdout: "",
      stderr: String(error),
    }));
    writeFileSync(join(folder, `${where}.txt`), `${result.stdout}\n${result.stderr}\n`);
  };
  const running: Host[] = [];
  for (const host of hosts.hosts) if (await hosts.isOn(host)) running.push(host);
  await Promise.all([
    ask("client", ["sh", "-c", "ss -tinope; ip neigh; nstat -asz | grep -v ' 0 '"]),
    ...running.map((host) => ask(host, ["sh", "-c", onHost])),
  ]);
}

/** Returns the folders of what was taken, when the load is over. */
export function watchSilence(hosts: Hosts, client: ClientProcess, name: string): () => string[] {
  const taken: string[] = [];
  let looking = false;
  client.onProgress = ({ waiting, nowUs }) => {
    if (!waiting || nowUs - waiting.sinceUs < silenceUsMax) return;
    if (looking || taken.length === takesMax) return;
    looking = true;
    const folder = join(outFolder(), `${name}-silent-${taken.length + 1}`);
    taken.push(folder);
    void look(hosts, folder, waiting).finally(() => {
      looking = false;
    });
  };
  return () => taken;
}
