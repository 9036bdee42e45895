/** What one full epoch restores to: through a store of its own, as on a standby. For preflight's probe and for tests. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointStore } from "./store.js";

export interface ComposeOptions {
  /** build/ */
  nativeDir: string;
  pair: string;
  /** An empty folder on a tmpfs. */
  folder: string;
  roots: string;
  subject: string;
}

export interface Composer {
  commit(epoch: number, blob: string): Promise<void>;
  /** The last committed epoch as images in a new folder, whose path it returns; `lazyFrom` as for the store. */
  images(lazyFrom?: number): Promise<string>;
  close(): Promise<void>;
}

export async function openComposer(options: ComposeOptions): Promise<Composer> {
  const { folder } = options;
  const dir = join(folder, "store");
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const store = await CheckpointStore.start({
    program: join(options.nativeDir, "bin/ftstore"),
    pair: options.pair,
    dir,
    spool: folder,
    rootPid: 0,
    roots: options.roots,
    subject: options.subject,
    onGone: () => {},
  });
  let composed = 0;
  return {
    commit: async (epoch, path) => {
      await store.commit({ epoch, path });
    },
    images: async (lazyFrom) => {
      composed += 1;
      const images = join(folder, `composed-${composed}`);
      await store.materialize(images, lazyFrom);
      return images;
    },
    close: () => store.stop(),
  };
}
