/** The entropy device, driven by a guest of its own: test/guests/virtio-rng.c. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guestTests, guestTimeoutMs, runSuite, transports, verdicts } from "./harness.ts";
import { runSuiteOnQemu } from "./qemu.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-rng-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const transport of transports) {
  describe(`rng on ${transport}`, () => {
    // without --rng there is one, too
    guestTests(["rng-fills", "rng-many"], { guest: "virtio-rng", transport });

    test(
      "a source that ends gives what there is, and one warning",
      async () => {
        const source = join(folder, "source");
        writeFileSync(
          source,
          Uint8Array.from({ length: 300 }, (_, i) => i),
        );
        const { stdout, stderr, exitCode } = await runSuite("rng-ends", {
          ...{ guest: "virtio-rng", transport, cmdline: "bytes=300" },
          args: ["--rng", `src=${source}`],
        });

        expect(verdicts(stdout)).toEqual(["ok rng-ends", "done"]);
        expect(exitCode).toBe(0);
        expect(stderr).toMatch(/ -- __rng: the source has ended; [^\n]*\n$/);
        expect(stderr.trimEnd().split("\n")).toHaveLength(1);
      },
      guestTimeoutMs,
    );
  });
}

test(
  "the guest finds QEMU's device right",
  async () => {
    const { stdout } = await runSuiteOnQemu("mmio", "rng-fills,rng-many", {
      ...{ guest: "virtio-rng", cmdline: "transport=mmio" },
      args: ["-device", "virtio-rng-device"],
    });
    expect(verdicts(stdout)).toEqual(["ok rng-fills", "ok rng-many", "done"]);
  },
  guestTimeoutMs,
);
