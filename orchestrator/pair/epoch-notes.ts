/** What the checkpoints of a pair told, for those who ask how it does. Bounded. */
import type { EpochReport } from "../epoch/ports.js";
import { medians, Window } from "./measure.js";
import { memoryKey, memoryNews } from "./memory.js";

export interface EpochNews {
  /** How memory gets into a checkpoint is another than before. */
  memory: ReturnType<typeof memoryNews>;
  /** For the log: what changed in how a checkpoint is made. */
  lines: { fields: Record<string, string | number>; message: string }[];
}

export class EpochNotes {
  /** How many. */
  count = 0;
  skipped = 0;
  lastAtMs: number | undefined;
  private readonly windows = {
    pause: new Window(),
    dump: new Window(),
    ship: new Window(),
    commit: new Window(),
    bytes: new Window(),
  };
  private readonly pauseParts = new Map<string, Window>();
  /** Of the last epoch: how its memory was found. */
  private memory: EpochReport | undefined;
  private filesWalked: string | undefined;
  private plain = "";

  /** As standby: one more is kept here. Epoch 0 is what is sent ahead of the first checkpoint, and none itself. */
  kept(epoch: number, atMs: number): void {
    if (epoch > 0) this.count += 1;
    this.lastAtMs = atMs;
  }

  /** As primary: one more is safe on the standby. */
  committed(report: EpochReport, atMs: number): EpochNews {
    this.kept(report.epoch, atMs);
    this.measure(report);
    const news: EpochNews = {
      memory: memoryNews(report, this.memory && memoryKey(this.memory)),
      lines: [],
    };
    if (report.tracking !== undefined) this.memory = report;
    const { epoch, filesWalked } = report;
    if (filesWalked !== this.filesWalked) {
      this.filesWalked = filesWalked;
      const message = "whether all files are looked at";
      news.lines.push({ fields: { epoch, filesWalked: filesWalked ?? "" }, message });
    }
    const plain = (report.plain ?? []).join();
    if (plain !== this.plain) {
      this.plain = plain;
      const message = "what of the dump is done the plain way";
      news.lines.push({ fields: { epoch, plain }, message });
    }
    return news;
  }

  private measure(report: EpochReport): void {
    this.windows.pause.add(report.pauseMs);
    this.windows.dump.add(report.wallMs);
    this.windows.ship.add(report.shipMs);
    this.windows.commit.add(report.commitMs);
    this.windows.bytes.add(report.bytes);
    for (const [name, ms] of Object.entries(report.pausePartsMs ?? {})) {
      const window = this.pauseParts.get(name) ?? new Window();
      this.pauseParts.set(name, window);
      window.add(ms);
    }
  }

  /** What of it `status` shows; a field is undefined before its first value. */
  view() {
    const { windows, memory } = this;
    return {
      epochsCommitted: this.count,
      epochsSkipped: this.skipped,
      pauseMs: windows.pause.percentiles(),
      pausePartsMs: medians(this.pauseParts),
      tracking: memory?.tracking,
      wholeWhy: memory?.wholeWhy,
      memoryBytes: memory?.memoryBytes,
      filesWalked: this.filesWalked,
      dumpMs: windows.dump.percentiles(),
      shipMs: windows.ship.percentiles(),
      commitMs: windows.commit.percentiles(),
      bytesPerEpoch: windows.bytes.percentiles(),
    };
  }
}
