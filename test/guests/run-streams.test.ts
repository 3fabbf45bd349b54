/** What passes through `chv run` in quantity, at the pace of whoever reads it; more of it in large/. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { guestTimeoutMs } from "./harness.ts";
import { StreamingRun } from "./run-streams.ts";

const [MiB, GiB] = [2 ** 20, 2 ** 30];
let run: StreamingRun;
beforeEach(() => {
  run = new StreamingRun();
});
afterEach(() => rmSync(run.folder, { recursive: true, force: true }));

test("1 GiB of output passes, and chv does not grow", () => run.pours(GiB, "fast"), guestTimeoutMs);

test(
  "a reader that is slower than the guest has its own pace",
  () => run.pours(128 * MiB, "slow"),
  guestTimeoutMs,
);

test("128 MiB of input pass, and chv does not grow", () => run.drains(128 * MiB), guestTimeoutMs);

test(
  "into a file, from a file",
  async () => {
    const [stored, command] = [
      `${run.folder}/stored`,
      await run.command("flood", String(32 * MiB)),
    ];
    const out = Bun.spawn(command, { stdin: "ignore", stdout: Bun.file(stored) });
    expect(await out.exited).toBe(0);
    const back = Bun.spawn(await run.command("drain"), {
      ...{ stdin: Bun.file(stored), stdout: "pipe" },
    });

    expect([await back.stdout.text(), await back.exited]).toEqual([String(32 * MiB), 0]);
  },
  guestTimeoutMs,
);
