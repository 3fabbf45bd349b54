/**
 * `./dev test images`: whole cloud images of every layout, each with a command that ends well, that fails and that is
 * killed, and a kernel that panics. Two guests at once are micro-guests' (test/guests/run.test.ts): the lab runs one.
 */
import { describe, expect, test } from "bun:test";
import { layoutNames } from "../../images/layouts.ts";
import { cloudRun, cloudRunMs } from "../cloud-run.ts";

const ends = [
  { what: "status 0", script: "uname -s; exit 0", status: 0, signal: null },
  { what: "status 7", script: "uname -s; exit 7", status: 7, signal: null },
  { what: "a signal", script: "uname -s; kill -KILL $$", status: 137, signal: 9 },
] as const;

describe.each(layoutNames)("the layout of Ubuntu %s", (image) => {
  for (const { what, script, status, signal } of ends) {
    test(
      what,
      async () => {
        const run = await cloudRun("matrix", { image, command: ["sh", "-c", script] });
        expect([run.status, run.stdout, run.stderr]).toEqual([status, "Linux\n", ""]);
        expect(run.result).toMatchObject({ reason: "command", status, status_by: "guest" });
        expect(run.result.signal ?? null).toBe(signal);
      },
      cloudRunMs,
    );
  }

  test(
    "a panic",
    async () => {
      const script = "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60";
      const run = await cloudRun("matrix", { image, command: ["sh", "-c", script] });
      expect([run.status, run.stdout]).toEqual([245, ""]);
      expect(run.stderr.trim().split("\n").at(-1)).toContain("sysrq triggered crash");
      expect(run.result).toMatchObject({ reason: "panic", status_by: "chv" });
    },
    cloudRunMs,
  );
});
