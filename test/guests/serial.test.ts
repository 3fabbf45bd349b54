import { describe, expect, test } from "bun:test";
import { expectOk, guestTests, guestTimeoutMs, notes, runSuite } from "./harness.ts";

describe("serial port", () => {
  guestTests([
    "serial-reset",
    "serial-scratch",
    "serial-registers",
    "serial-loopback",
    "serial-loopback-delta",
    "serial-fifo",
    "serial-overrun",
    "serial-causes",
    "serial-trigger",
    "serial-transmit-interrupt",
  ]);

  for (const fifo of ["off", "on"]) {
    test(
      `input arrives by interrupt at a halted guest, FIFO ${fifo}`,
      async () => {
        const typed = "The quick brown fox jumps over the lazy dog.";
        const run = await runSuite("serial-input", {
          cmdline: `bytes=${typed.length} fifo=${fifo}`,
          stdin: typed,
        });
        expectOk("serial-input", run);
        expect(notes(run.stdout).get("echo")).toBe(typed);
      },
      guestTimeoutMs,
    );
  }

  test(
    "a burst of output that is larger than any buffer arrives whole and in order",
    async () => {
      const bytes = 128 * 1024;
      const run = await runSuite("serial-output", { cmdline: `bytes=${bytes}` });
      expectOk("serial-output", run);
      const start = run.stdout.indexOf("note start yes\n") + "note start yes\n".length;
      const output = run.stdout.slice(start, run.stdout.indexOf("\nnote end yes"));
      expect(output).toBe("0123456789abcdef".repeat(bytes / 16));
    },
    guestTimeoutMs,
  );
});
