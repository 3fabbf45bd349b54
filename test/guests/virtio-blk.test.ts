/** The virtio transports and the disk, driven by a guest of their own: test/guests/virtio-blk. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  expectOk,
  guestTests,
  guestTimeoutMs,
  notes,
  runSuite,
  type SuiteOptions,
  transports,
  verdicts,
} from "./harness.ts";
import { runSuiteOnQemu } from "./qemu.ts";

const sectorBytes = 512;
const sectors = 2048;
const mark = 0x5a;
/** Where chv has memory-mapped configuration space (docs/memory-map.md). */
const mmconfig = 0xe800_0000;

const folder = mkdtempSync(join(tmpdir(), "chv-blk-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Sectors that begin with their number and are full of `mark`, as disk.h says. */
const filled = (() => {
  const bytes = new Uint8Array(sectors * sectorBytes).fill(mark);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < sectors; i++) view.setBigUint64(i * sectorBytes, BigInt(i), true);
  return bytes;
})();

let images = 0;
function image(): string {
  const path = join(folder, `disk${images++}`);
  writeFileSync(path, filled);
  return path;
}

/** The guest with one disk. */
function withDisk({ path = image(), more = "", queues = 1, words = "" } = {}): SuiteOptions {
  return {
    guest: "virtio-blk",
    cmdline: `sectors=${sectors} queues=${queues} queue_size=128 ${words}`,
    args: ["--disk", `path=${path},serial=guest-disk,num_queues=${queues}${more}`],
  };
}

for (const transport of transports) {
  describe(`a disk on ${transport}`, () => {
    const path = image();
    guestTests(
      [
        ...["blk-identity", "blk-read", "blk-pieces", "blk-long-chain", "blk-write", "blk-zeroes"],
        ...["blk-discard", "queue-plain", "queue-indirect", "queue-event-index"],
        ...["queue-indirect-event-index", "queue-offered-early", "queue-not-enabled"],
        ...["queue-calls-flag", "queue-calls-event-index", "interrupts-pin"],
        ...["interrupts-pin-reset", "virtio-ladder", "virtio-features-refused", "virtio-failed"],
        ...["virtio-reset-in-flight", "virtio-reset-forgets"],
      ],
      { transport, ...withDisk({ path }) },
    );

    test("what it wrote, zeroed and discarded is so in the file, and the rest as it was", () => {
      const file = new Uint8Array(readFileSync(path));
      const sector = (n: number) => file.subarray(n * sectorBytes, (n + 1) * sectorBytes);
      const written = new DataView(file.buffer).getBigUint64(1000 * sectorBytes, true);
      const zeroes = [1100, 1101, 1102, ...range(1104, 8), ...range(1200, 16)];
      expect(written).toBe(0x1111n);
      for (const n of zeroes) expect(sector(n)).toEqual(new Uint8Array(sectorBytes));
      for (const n of [...range(1000, 8), ...zeroes, 1300]) {
        sector(n).set(filled.subarray(n * sectorBytes, (n + 1) * sectorBytes));
      }
      expect(Buffer.compare(file, filled)).toBe(0);
    });

    test(
      "rings that break the rules cost the guest the device, until it resets it",
      async () => {
        const names = "virtio-broken-ring,virtio-misplaced-rings";
        const run = await runSuite(names, { transport, ...withDisk() });
        const { stdout, stderr, exitCode } = run;
        expect({ verdicts: verdicts(stdout), exitCode }).toEqual({
          verdicts: ["ok virtio-broken-ring", "ok virtio-misplaced-rings", "done"],
          exitCode: 0,
        });
        expect(notes(stdout).get("broken")).toBe("12");
        // one line for each: 12 rings that were broken, 4 that were not where rings can be
        const lines = stderr.trimEnd().split("\n");
        expect(
          lines.filter((line) => !line.includes("_disk0: the driver broke its queue")),
        ).toEqual([]);
        expect(lines).toHaveLength(16);
        const failures = run.events.filter(({ event }) => event === "error");
        expect(failures.map(({ source }) => source)).toEqual(new Array(16).fill("_disk0"));
        expect(failures[0]!.properties?.reason).toStartWith("the driver broke its queue: ");
      },
      guestTimeoutMs,
    );

    test(
      "is taken back from the midst of its work with the image past the page cache",
      async () => {
        const options = withDisk({ more: ",direct=on", words: "rounds=60" });
        const run = await runSuite("virtio-reset-in-flight", { transport, ...options });
        expectOk("virtio-reset-in-flight", run);
      },
      guestTimeoutMs,
    );
  });

  test(
    `a disk on ${transport} is as after power-on when the machine starts over in the midst of its work`,
    async () => {
      const options = withDisk({ more: ",direct=on", words: "boots=6" });
      const run = await runSuite("blk-reboot", { transport, ...options });
      expectOk("blk-reboot", run);
      expect(run.events.filter(({ event }) => event === "reset")).toHaveLength(5);
    },
    guestTimeoutMs,
  );

  describe(`a disk of two processors on ${transport}`, () => {
    guestTests(
      [
        "smp-queue-each",
        ...(transport === "pci" ? ["smp-vector-each", "smp-mask-load"] : []),
        "smp-reset-bystander",
      ],
      { transport, cpus: 2, ...withDisk({ queues: 2 }) },
    );
  });
}

describe("MSI-X", () => {
  guestTests(
    [
      ...["interrupts-msix", "interrupts-intx-disabled", "msix-mask-vector", "msix-mask-function"],
      ...["msix-mask-vector-load", "msix-mask-function-load", "msix-retarget"],
    ],
    withDisk(),
  );
});

describe("PCI configuration", () => {
  const { args = [], ...options } = withDisk({ words: `mmconfig=${mmconfig}` });
  guestTests(
    [
      ...["bar-sizing", "bar-moves-load", "bar-exchange", "bar-above-4g", "pci-mmconfig"],
      "pci-config-access",
    ],
    { ...options, args: [...args, `path=${image()}`] },
  );
});

/**
 * The same guest on QEMU's devices. Left out: what QEMU takes that chv refuses (features that were not offered, rings
 * that break the rules), and where an idle device is told of nothing (buffers from before DRIVER_OK on mmio; its first
 * call, which the event index did not ask for).
 */
describe("QEMU's disk", () => {
  const either = [
    ...["blk-identity", "blk-read", "blk-pieces", "blk-long-chain", "blk-write", "blk-zeroes"],
    ...["blk-discard", "queue-plain", "queue-indirect", "queue-event-index"],
    ...["queue-indirect-event-index", "queue-not-enabled", "queue-calls-flag", "virtio-ladder"],
    ...["virtio-failed", "virtio-reset-in-flight", "smp-queue-each", "smp-reset-bystander"],
  ];
  const onPci = [
    ...["interrupts-msix", "msix-mask-vector", "msix-mask-function", "msix-mask-vector-load"],
    ...[
      "msix-mask-function-load",
      "msix-retarget",
      "pci-config-access",
      "smp-vector-each",
      "smp-mask-load",
    ],
  ];
  const machines = [
    { machine: "q35", device: "virtio-blk-pci,disable-legacy=on", names: [...either, ...onPci] },
    { machine: "mmio", device: "virtio-blk-device", names: [...either, "interrupts-pin"] },
  ] as const;
  for (const { machine, device, names } of machines) {
    test(
      `is driven right by the guest on ${machine}`,
      async () => {
        const drive = `file=${image()},if=none,id=disk,format=raw,discard=unmap`;
        const transport = machine === "mmio" ? "transport=mmio" : "";
        const { stdout } = await runSuiteOnQemu(machine, names.join(","), {
          ...{ guest: "virtio-blk", cpus: 2 },
          cmdline: `sectors=${sectors} queues=2 ${transport}`,
          args: ["-drive", drive, "-device", `${device},drive=disk,serial=guest-disk,num-queues=2`],
        });
        const own = stdout.replace(/^Booting from ROM\.*/m, ""); // the BIOS's words
        expect(verdicts(own)).toEqual([...names.map((name) => `ok ${name}`), "done"]);
      },
      guestTimeoutMs,
    );
  }
});

const range = (start: number, length: number) => Array.from({ length }, (_, i) => start + i);
