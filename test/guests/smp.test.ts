import { describe, expect, test } from "bun:test";
import { expectOk, guestTests, guestTimeoutMs, notes, runSuite } from "./harness.ts";

describe("several processors", () => {
  for (const ipi of ["each", "broadcast"]) {
    test(
      `16 vCPUs are started by INIT and SIPI, ipi=${ipi}`,
      async () => {
        const run = await runSuite("smp-start", { cpus: 16, cmdline: `cpus=16 ipi=${ipi}` });
        expectOk("smp-start", run);
      },
      guestTimeoutMs,
    );
  }

  test(
    "another vCPU than the first powers off",
    async () => {
      expectOk("smp-poweroff", await runSuite("smp-poweroff", { cpus: 2 }));
    },
    guestTimeoutMs,
  );
});

describe("processors whose APIC ids have gaps", () => {
  // 2 packages of 3 cores: a core's number takes two bits of the id
  guestTests(["smp-start", "cpuid-topology"], {
    cpus: "boot=6,topology=1:3:1:2",
    cmdline: "cpus=6 ipi=broadcast",
  });

  test(
    "are those of the topology",
    async () => {
      const run = await runSuite("smp-ids", {
        cpus: "boot=6,topology=1:3:1:2",
        cmdline: "cpus=6 ipi=broadcast",
      });
      expectOk("smp-ids", run);
      expect(run.stdout.match(/^note apic-id .*$/gm)?.toSorted()).toEqual(
        [0, 1, 2, 4, 5, 6].map((id) => `note apic-id ${id}`),
      );
    },
    guestTimeoutMs,
  );
});

describe("vCPUs that fight over one device", () => {
  guestTests(["smp-scratch", "smp-cmos", "smp-ioapic"], { cpus: 2, cmdline: "cpus=2 rounds=2000" });

  test(
    "lose no character of their output",
    async () => {
      const run = await runSuite("smp-output", { cpus: 4, cmdline: "cpus=4 rounds=2000" });
      expectOk("smp-output", run);
      const letters = notes(run.stdout).get("letters")!;
      const count = (letter: string) => letters.split(letter).length - 1;
      expect(["A", "B", "C", "D"].map(count)).toEqual([2000, 2000, 2000, 2000]);
      expect(letters).toHaveLength(8000);
    },
    guestTimeoutMs,
  );
});
