import { describe, expect, test } from "bun:test";
import { expectOk, guestTests, guestTimeoutMs, runSuite } from "./harness.ts";

describe("platform", () => {
  guestTests(["pm-timer", "i8042", "cpuid-hypervisor", "kvmclock"]);
});

describe("processor ids in CPUID", () => {
  guestTests(["cpuid-topology"], { cpus: 3, cmdline: "cpus=3" });
});

describe("debug port", () => {
  /** What suite/platform.c writes, and the ranges of Cloud Hypervisor's docs/debug-port.md. */
  const codes = [
    [0x00, "Firmware"],
    [0x1f, "Firmware"],
    [0x20, "Bootloader"],
    [0x41, "Kernel"],
    [0x5f, "Kernel"],
    [0x60, "Userspace"],
    [0x7f, "Userspace"],
    [0x80, "Custom"],
    [0xff, "Custom"],
    [0xff, "Custom"],
  ];

  test(
    "every code becomes an event, in order, repeated ones too",
    async () => {
      const run = await runSuite("debug-port");
      expectOk("debug-port", run);
      const told = run.events.filter(({ source }) => source === "guest");
      expect(told.map(({ properties }) => [properties?.code, properties?.range])).toEqual(codes);
    },
    guestTimeoutMs,
  );

  test(
    "every code becomes a log line at debug level",
    async () => {
      const run = await runSuite("debug-port", { args: ["-vv"] });
      const lines = [
        ...run.stderr.matchAll(/\[Debug I\/O port: (\S+) code (0x..)\] \d+\.\d{6} seconds/g),
      ];
      expect(lines.map(([, range, code]) => [Number(code), range])).toEqual(codes);
    },
    guestTimeoutMs,
  );
});
