/** A small image for tests: a shell and a few tools of this machine. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";

export async function buildImage(dockerSocket: string, name: string): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), "k-image-"));
  const script = `
    set -e
    for tool in sh sleep cat ls mkdir rm touch ln; do
      path=$(command -v $tool)
      mkdir -p bin; cp -L $path bin/$tool
      ldd $path | grep -o '/[^ ]*' | while read lib; do mkdir -p .$(dirname $lib); cp -Ln $lib .$lib; done
    done
    mkdir -p opaque/old etc tmp; echo one > opaque/old/a; echo lower > lower
    tar c . | docker -H unix://${dockerSocket} import - ${name}`;
  await execa("sh", ["-c", script], { cwd: root });
  await rm(root, { recursive: true });
}

export async function dropImage(dockerSocket: string, name: string): Promise<void> {
  await execa("docker", ["-H", `unix://${dockerSocket}`, "rmi", name], { reject: false });
}
