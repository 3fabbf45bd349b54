import { expect, test } from "bun:test";
import { expectOk, runSuite } from "../harness.ts";

const timeoutMs = 300_000;

/** 254 is what 8-bit APIC ids allow: 255 is the broadcast. */
test(
  "254 vCPUs are started by INIT and SIPI",
  async () => {
    const run = await runSuite("smp-start", {
      cpus: 254,
      memory: "512M",
      cmdline: "cpus=254",
      timeoutMs,
    });
    expectOk("smp-start", run);
    expect(run.events.filter(({ event }) => event === "first-run")).not.toHaveLength(0);
  },
  timeoutMs,
);
