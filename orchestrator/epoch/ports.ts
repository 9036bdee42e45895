/** What the epoch loop needs of the rest: four narrow interfaces, so that it is tested without Docker. */

export interface DumpResult {
  pauseMs: number;
  wallMs: number;
  bytes: number;
  full: boolean;
  /** Where the pause went, by name. */
  pausePartsMs?: Record<string, number>;
  /** What shortens the pause and was not to be had for this epoch. */
  plain?: string[];
  /** How written memory is found. `full`: it is not, all of it is dumped every time. */
  tracking?: string;
  /** Why all memory, or that of some process, is dumped whole. */
  wholeWhy?: string;
  /** Private memory of the application's processes. */
  memoryBytes?: number;
  /** Why the files were walked; absent when the kernel told which of them changed. */
  filesWalked?: string;
}

/** Freezes, captures and thaws the application; the thaw is its promise, whatever happens. */
export interface Dumper {
  dump(request: {
    epoch: number;
    base: number;
    generation: number;
    path: string;
  }): Promise<DumpResult>;
  /** The standby holds `epoch`: it may serve as the base of the next delta. */
  acked(epoch: number): Promise<void>;
}

/** Carries one epoch to the standby; resolves when the standby has committed it. */
export interface Shipper {
  ship(request: {
    epoch: number;
    base: number;
    generation: number;
    path: string;
    bytes: number;
  }): Promise<{ commitMs: number }>;
}

/** The gate's side of output commit. */
export interface Releaser {
  release(epoch: number): Promise<{ frames: number; bytes: number; stillHeld: boolean }>;
}

/** Where an epoch's blob lies between dump and ship. */
export interface Spool {
  pathOf(epoch: number): string;
  remove(epoch: number): Promise<void>;
}

/** What is told to those who watch: the pair (state, metrics, events). */
export interface EpochObserver {
  committed(epoch: EpochReport): void;
  skipped(epoch: number, stage: "dump" | "ship" | "release", error: unknown): void;
  lost(failures: number): void;
}

export interface EpochReport extends DumpResult {
  epoch: number;
  shipMs: number;
  commitMs: number;
  releasedFrames: number;
  totalMs: number;
}
