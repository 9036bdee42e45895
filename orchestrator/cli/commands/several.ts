/** Several names at once: each has its own result, and one failure does not keep the others from theirs. */
import { asFtError, type FtError } from "../../errors/error.js";
import type { Context } from "../context.js";

export interface Several<T> {
  rows: T[];
  failures: FtError[];
}

/** In the order given, each name once. `parallel` is for what only reads. */
export async function each<T>(
  context: Context,
  names: string[],
  run: (name: string) => Promise<T>,
  parallel = false,
): Promise<Several<T>> {
  const rows: T[] = [];
  const failures: FtError[] = [];
  const unique = [...new Set(names)];
  const outcomes = parallel ? unique.map((name) => settle(name, run)) : undefined;
  for (const [index, name] of unique.entries()) {
    const outcome = await (outcomes?.[index] ?? settle(name, run));
    // The end of the whole command is not the failure of one of its objects.
    context.signal.throwIfAborted();
    if (Array.isArray(outcome)) rows.push(outcome[0]);
    else failures.push(outcome);
  }
  return { rows, failures };
}

async function settle<T>(name: string, run: (name: string) => Promise<T>): Promise<[T] | FtError> {
  try {
    return [await run(name)];
  } catch (thrown) {
    return asFtError(thrown, name);
  }
}
