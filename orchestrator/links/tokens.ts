/**
 * One-time join tokens: `ftj1.<id>.<secret>.<fingerprint of the authority>`. The secret is kept only as a
 * hash, one file a token under <stateDir>/identity/tokens.
 *
 * Invariant: a token admits one host. It is spent by renaming its file, which succeeds exactly once, also
 * when two agents or a crash are in between.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Clock } from "../clock.js";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { hostNameSchema } from "./host-name.js";
import { identityDir } from "./identity.js";
import { replaceFile } from "./replace-file.js";

export const TOKEN_PATTERN = /^ftj1\.([0-9a-f]{16})\.([\w-]{43})\.([\w-]{43})$/;
const TOKENS_MAX = 100;

const tokenFileSchema = z.strictObject({
  format: z.literal("ftctl-join-token"),
  version: z.literal(1),
  secretHash: z.string(),
  expiresAtMs: z.number(),
  host: hostNameSchema.optional(),
});

export interface TokenParts {
  id: string;
  secret: string;
  fingerprint: string;
}

export function parseToken(text: string): TokenParts {
  const match = TOKEN_PATTERN.exec(text.trim());
  if (match === null) {
    throw tokenInvalid("this is not a join token", "Copy the whole line that starts with `ftj1.`.");
  }
  return { id: match[1]!, secret: match[2]!, fingerprint: match[3]! };
}

export function createToken(options: {
  stateDir: string;
  fingerprint: string;
  clock: Clock;
  lifetimeMs?: number | undefined;
  /** Only this host may use it, and it may replace a host of that name. */
  host?: string | undefined;
}): { token: string; expiresAtMs: number } {
  const dir = tokensDir(options.stateDir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  removeStale(dir, options.clock);
  const id = randomBytes(8).toString("hex");
  const secret = randomBytes(32).toString("base64url");
  const expiresAtMs = options.clock.wallMs() + (options.lifetimeMs ?? limits.joinTokenLifetimeMs);
  const content = {
    format: "ftctl-join-token",
    version: 1,
    secretHash: hash(secret).toString("base64url"),
    expiresAtMs,
    ...(options.host === undefined ? {} : { host: options.host }),
  };
  replaceFile(join(dir, `${id}.json`), JSON.stringify(content), 0o600);
  return { token: `ftj1.${id}.${secret}.${options.fingerprint}`, expiresAtMs };
}

/** A token that was right, not yet spent. */
export interface AcceptedToken {
  /** The host it is bound to, if it is. */
  host: string | undefined;
  /** Throws JOIN_TOKEN_INVALID if someone else was faster. */
  spend(): void;
}

export function verifyToken(
  stateDir: string,
  offered: { id: string; secret: string },
  clock: Clock,
): AcceptedToken {
  const file = join(tokensDir(stateDir), `${offered.id}.json`);
  const kept = /^[0-9a-f]{16}$/.test(offered.id) ? readToken(file) : undefined;
  // Compared also when there is no such token, so that the time taken tells nothing.
  const expected = kept === undefined ? hash("") : Buffer.from(kept.secretHash, "base64url");
  const equal = timingSafeEqual(expected, hash(offered.secret));
  if (kept === undefined || !equal) {
    throw tokenInvalid("the token is unknown, was used before, or its secret is wrong");
  }
  if (clock.wallMs() > kept.expiresAtMs) throw tokenInvalid("the token has expired");
  return {
    host: kept.host,
    spend() {
      try {
        renameSync(file, `${file}.used`);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
        throw tokenInvalid("the token was used at the same moment by another host");
      }
      rmSync(`${file}.used`, { force: true });
    },
  };
}

export function tokenInvalid(message: string, hint?: string): FtError {
  return new FtError({
    code: "JOIN_TOKEN_INVALID",
    subject: "join token",
    message,
    hint: hint ?? "Make a new one with `ftctl init --token` on the host that has the authority.",
    exitCode: 6,
  });
}

function tokensDir(stateDir: string): string {
  return join(identityDir(stateDir), "tokens");
}

function hash(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}

function readToken(file: string): z.infer<typeof tokenFileSchema> | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const parsed = tokenFileSchema.parse(JSON.parse(text));
  if (Buffer.from(parsed.secretHash, "base64url").length !== 32)
    throw new Error(`bad hash: ${file}`);
  return parsed;
}

function removeStale(dir: string, clock: Clock): void {
  const names = readdirSync(dir);
  for (const name of names) {
    const file = join(dir, name);
    const expired = name.endsWith(".json") && (readToken(file)?.expiresAtMs ?? 0) < clock.wallMs();
    if (expired || name.endsWith(".used")) rmSync(file, { force: true });
  }
  if (readdirSync(dir).length >= TOKENS_MAX) {
    throw new FtError({
      code: "TOO_MANY_TOKENS",
      subject: dir,
      message: `${TOKENS_MAX} join tokens are outstanding`,
      hint: "Wait until they expire, or remove the files.",
    });
  }
}
