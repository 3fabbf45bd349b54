import { describe, expect, test } from "bun:test";
import { expectOk, guestTests, guestTimeoutMs, notes, runSuite } from "./harness.ts";

describe("CMOS clock", () => {
  guestTests(["rtc-ram", "rtc-update", "rtc-periodic", "rtc-alarm"]);

  test(
    "tells the host's time, in UTC, and the weekday",
    async () => {
      const before = Math.floor(Date.now() / 1000);
      const run = await runSuite("rtc-time");
      const after = Date.now() / 1000;

      expectOk("rtc-time", run);
      const fields = notes(run.stdout).get("rtc-time")!.split(/[-T:]/).map(Number);
      const [year, month, day, hour, minute, second] = fields as [number, ...number[]];
      const told = new Date(Date.UTC(year, month! - 1, day, hour, minute, second));
      expect(told.getTime() / 1000).toBeGreaterThanOrEqual(before);
      expect(told.getTime() / 1000).toBeLessThanOrEqual(after);
      // the MC146818A counts from Sunday = 1
      expect(notes(run.stdout).get("rtc-weekday")).toBe(`${told.getUTCDay() + 1}`);
    },
    guestTimeoutMs,
  );

  // register pairs as PC firmware leaves them: KiB above 1 MiB (at most 65535), 64 KiB units above
  // 16 MiB and 4 GiB
  for (const { size, above1M, above16M, above4G } of [
    { size: "64M", above1M: 63 * 1024, above16M: 48 * 16, above4G: 0 },
    { size: "5G", above1M: 65535, above16M: (3072 - 16) * 16, above4G: 2048 * 16 },
  ]) {
    test(
      `tells the memory size of a guest with ${size}`,
      async () => {
        const run = await runSuite("rtc-memory", { memory: size });
        expectOk("rtc-memory", run);
        const told = notes(run.stdout);
        expect(told.get("kib-above-1m")).toBe(`${above1M}`);
        expect(told.get("64kib-above-16m")).toBe(`${above16M}`);
        expect(told.get("64kib-above-4g")).toBe(`${above4G}`);
      },
      guestTimeoutMs,
    );
  }
});
