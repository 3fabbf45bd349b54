import { describe, expect, test } from "bun:test";
import { expectOk, guestTimeoutMs, notes, runSuite } from "./harness.ts";

const GiB = 2 ** 30;
const ram = 1;

interface Range {
  readonly start: number;
  readonly length: number;
  readonly type: number;
}

/** `note range START LENGTH TYPE` lines of suite/memory.c. */
function ranges(stdout: string): Range[] {
  return [...stdout.matchAll(/^note range (\S+) (\S+) (\S+)$/gm)].map(
    ([, start, length, type]) => ({
      start: Number(start),
      length: Number(length),
      type: Number(type),
    }),
  );
}

describe("guest memory", () => {
  for (const [size, bytes] of [
    ["64M", 64 * 2 ** 20],
    ["5G", 5 * GiB],
    ["128G", 128 * GiB],
  ] as const) {
    test(
      `of ${size}: the first and last page of every range are there, each its own`,
      async () => {
        const run = await runSuite("memory-edges", { memory: size });
        expectOk("memory-edges", run);

        const map = ranges(run.stdout);
        const usable = map.filter(({ type }) => type === ram);
        // all but the legacy hole below 1 MiB
        const total = Number(notes(run.stdout).get("ram-bytes"));
        expect(bytes - total).toBeGreaterThanOrEqual(0);
        expect(bytes - total).toBeLessThanOrEqual(0x6_0400);
        for (const { start, length } of usable) {
          const end = start + length;
          expect(end <= 3 * GiB || start >= 4 * GiB).toBe(true);
        }
        const inOrder = map.toSorted((a, b) => a.start - b.start);
        inOrder.slice(1).forEach(({ start }, index) => {
          expect(start).toBeGreaterThanOrEqual(inOrder[index]!.start + inOrder[index]!.length);
        });
      },
      guestTimeoutMs,
    );
  }
});
