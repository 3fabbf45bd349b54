import { describe, expect, test } from "bun:test";
import { guestTests, guestTimeoutMs, runSuite } from "./harness.ts";

describe("accesses", () => {
  guestTests([
    "unhandled-port",
    "unhandled-mmio",
    "mmio-widths",
    "port-widths",
    "straddle",
    "string-in",
    "string-out",
  ]);

  test(
    "an exit that cannot be served ends the VM, saying where",
    async () => {
      const run = await runSuite("bad-exit");
      expect(run.exitCode).toBe(243);
      expect(run.stderr).toMatch(/KVM_EXIT_INTERNAL_ERROR .*rip=(0x)?0*d0000000\b.*rsp=/);
      expect(run.stdout).toBe("");
    },
    guestTimeoutMs,
  );
});
