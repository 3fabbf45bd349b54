/** A VM's consoles through the API: what they say, typing into them, and waiting for a line. */
import type { ConsoleLog } from "../machine/console/log.ts";
import { typeBytes } from "../machine/console/typed.ts";
import type { ConsoleWatch } from "../machine/console/watch.ts";
import { VmmError } from "../machine/vmm/errors.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";
import { endOf, ends, limited, missed, nameOf } from "../machine/vmm/wait.ts";
import { ApiError } from "./errors.ts";
import { LineSearch } from "./line-search.ts";
import { streamResponse } from "./streams.ts";

/** The console that is meant: by name, or the one that has said most. */
export function logOf(vmm: Vmm, name: string | undefined): ConsoleLog {
  const { logs } = vmm.consoles;
  const named = name === undefined ? undefined : logs.find((log) => log.name === name);
  if (name !== undefined && named === undefined) {
    const there = logs.map((log) => log.name).join(", ") || "none";
    throw new ApiError(404, `There is no console ${name}; there are: ${there}`);
  }
  const busiest = logs.toSorted((a, b) => b.recent.length - a.recent.length)[0];
  const log = named ?? busiest;
  if (log === undefined) throw new ApiError(404, "The VM has no console");
  return log;
}

/** What a console has said, up to 1 MiB of it, and, with `follow`, what it says until the machine ends. */
export function consoleResponse(
  vmm: Vmm,
  options: { readonly name: string | undefined; readonly follow: boolean },
  signal: AbortSignal,
): Response {
  vmm.consoles.poll();
  const log = logOf(vmm, options.name);
  const type = "application/octet-stream";
  if (!options.follow) {
    return new Response(log.recent.slice(), { headers: { "content-type": type } });
  }
  return streamResponse(type, signal, ({ write, end }) => followConsole(vmm, log.name, write, end));
}

/** Calls `write` with what a console has said and says, and `end` when its machine ends; the function ends both. */
export function followConsole(
  vmm: Vmm,
  name: string,
  write: (bytes: Uint8Array) => void,
  end: () => void,
): () => void {
  const leaves = [logOf(vmm, name).follow(write)];
  leaves.push(
    vmm.events.next(({ source, event }) => {
      if (source === "vm" && (event === "shutdown" || event === "deleted")) end();
    }),
  );
  return () => {
    for (const leave of leaves) leave();
  };
}

const typingTimeoutMs = 10_000;
const typingPauseMs = 5;

/** Types text into a console; resolves when all of it is on its way to the guest. */
export async function writeConsole(
  vmm: Vmm,
  name: string | undefined,
  text: string,
  signal: AbortSignal,
): Promise<void> {
  const consoles = vmm.guest?.machine.consoles ?? [];
  const { name: meant } = logOf(vmm, name);
  const typed = consoles.find((spec) => spec.name === meant)?.typed;
  if (typed === undefined) throw new VmmError("state", "The VM does not run");
  const deadline = Date.now() + typingTimeoutMs;
  let rest = new TextEncoder().encode(text);
  for (;;) {
    rest = rest.subarray(typeBytes(typed, rest));
    if (rest.length === 0 || signal.aborted) return;
    if (Date.now() > deadline) {
      throw new VmmError("timeout", `The guest did not take the last ${rest.length} bytes`);
    }
    await Bun.sleep(typingPauseMs);
  }
}

/** A pattern's characters, and the instructions that it may come to: what may take some 100 ms a line is refused. */
const patternMax = { length: 500, instructions: 300 } as const;

/**
 * Resolves with the line that a pattern is found in: one of this life of the guest, or of its last one, on any console.
 * The engine takes time in proportion to the line whatever the pattern is.
 */
export async function waitForLine(
  vmm: Vmm,
  pattern: string,
  timeoutMs: number | undefined,
  signal: AbortSignal,
): Promise<{ console: string; line: string }> {
  const matches = await matcherOf(pattern);
  const { promise, resolve, reject } = Promise.withResolvers<{ console: string; line: string }>();
  const search = new LineSearch(matches, (console, line) => resolve({ console, line }));
  /** What has been said already comes before any reason to give up. */
  const giveUp = (error: Error) => search.end(() => reject(error));
  const leaves = [() => search.stop()];
  const look = ({ logs }: ConsoleWatch): void => {
    for (const log of logs) leaves.push(log.followLife((bytes) => search.take(log.name, bytes)));
  };
  signal.addEventListener("abort", () => search.stop());
  const over = vmm.state === "None" ? undefined : endOf(vmm.events);
  const now = vmm.guest?.consoles ?? (over === undefined ? undefined : vmm.consoles);
  now?.poll();
  if (now) look(now);
  if (over !== undefined) giveUp(missed(`/${pattern}/`, over));
  leaves.push(
    vmm.events.next((event) => {
      const name = nameOf(event);
      const consoles = vmm.guest?.consoles;
      if (name === "vm/first-run" && consoles && leaves.length === 2) look(consoles);
      if (ends.includes(name)) {
        consoles?.poll();
        giveUp(missed(`/${pattern}/`, name));
      }
    }),
  );
  return limited(promise, giveUp, `/${pattern}/`, timeoutMs, signal).finally(() => {
    for (const leave of leaves) leave();
  });
}

/** Whether a line has the pattern in it. Throws ApiError when it is none, or costs too much. */
async function matcherOf(pattern: string): Promise<(line: string) => boolean> {
  const { RE2JS } = await import("re2js");
  const fail = (why: string) => new ApiError(400, `for: ${why}`, {}, "for");
  if (pattern.length > patternMax.length) {
    throw fail(`the pattern has more than ${patternMax.length} characters`);
  }
  let regex: ReturnType<typeof RE2JS.compile>;
  try {
    regex = RE2JS.compile(pattern);
  } catch (error) {
    throw fail((error as Error).message);
  }
  if (regex.programSize() > patternMax.instructions) {
    throw fail("the pattern is too costly; repeat less in it");
  }
  return (line) => regex.matcher(line).find();
}
