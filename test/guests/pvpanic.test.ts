import { describe, expect, test } from "bun:test";
import { expectOk, guestTests, guestTimeoutMs, runSuite } from "./harness.ts";

const words = "Kernel panic - not syncing: the guest's own words";
const pvpanic = (onPanic: string, cmdline = "") =>
  runSuite("pvpanic", { args: ["--pvpanic", "--on-panic", onPanic], cmdline });

describe("pvpanic", () => {
  test(
    "a panic is an event with the console's last lines; kept, the guest goes on",
    async () => {
      const run = await pvpanic("keep");

      expect(run.stderr).toContain(`the guest has panicked: ${words}`);
      expectOk("pvpanic", { ...run, stderr: "" });
      const told = run.events.filter(({ source }) => source === "guest");
      expect(told.map(({ event }) => event)).toEqual(["panic"]);
      const { last_lines } = told[0]!.properties as { last_lines: { serial: string[] } };
      expect(last_lines.serial).toContain(words);
    },
    guestTimeoutMs,
  );

  test(
    "one that goes on in a crash kernel is another event, and ends nothing",
    async () => {
      const run = await pvpanic("exit", "what=2");

      expect(run.stderr).toContain("(its crash kernel goes on)");
      expectOk("pvpanic", { ...run, stderr: "" });
      const told = run.events.filter(({ source }) => source === "guest");
      expect(told.map(({ event }) => event)).toEqual(["crash-loaded"]);
    },
    guestTimeoutMs,
  );

  test(
    "by default a panic ends chv with exit code 245",
    async () => {
      const run = await runSuite("pvpanic", { args: ["--pvpanic"] });

      expect(run.exitCode).toBe(245);
      expect(run.stderr).toContain(words);
    },
    guestTimeoutMs,
  );

  guestTests(["pvpanic-moves"], { args: ["--pvpanic"] });
});
