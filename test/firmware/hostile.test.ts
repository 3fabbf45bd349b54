/**
 * Damaged and malicious kernels: they boot or end in a KernelError, and never touch what is not
 * free RAM.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import type { BootOptions } from "../../src/firmware/boot-state.ts";
import { KernelError } from "../../src/firmware/kernel.ts";
import { MiB } from "./fake-ram.ts";
import { bzImage, elf, machine, note, pattern, pipe, poke, pvhNote, withSize } from "./images.ts";

setDefaultTimeout(60_000); // for a busy machine: they take a few seconds on an idle one

/** Small, so that hundreds of loads take no time: a machine with 4 MiB and a kernel at 2 MiB. */
const small = machine([{ start: 0, length: 4 * MiB }]);
const header = { prefAddress: 2 * MiB, initSize: MiB };

/** Boots or fails as it should; RAM outside the usable ranges is as before. */
function survives(kernel: Uint8Array, changed: Partial<BootOptions> = {}): void {
  try {
    const state = small.load(kernel, changed);
    const { start, end } = state.kernelRange;
    expect(start).toBeGreaterThanOrEqual(0x3_0000);
    expect(start).toBeLessThan(end);
    expect(end).toBeLessThanOrEqual(4 * MiB);
    expect(state.rip).toBeGreaterThanOrEqual(start);
    expect(state.rip).toBeLessThan(end);
  } catch (error) {
    // A RangeError of the fake RAM or of the fake files means that something was not checked.
    if (!(error instanceof KernelError)) throw error;
    expect(error.message).not.toContain("\n");
  }
  untouched(0x9_fc00, 0x6_0400);
  untouched(0, 0x500);
}

const filling = new Uint8Array(0x6_0400).fill(0xa5);
function untouched(address: number, length: number): void {
  if (Buffer.compare(small.ram.read(address, length), filling.subarray(0, length)) !== 0) {
    throw new Error(`memory between ${address} and ${address + length} was written`);
  }
}

const edge = fc.constantFrom(
  0,
  1,
  0x7f,
  0x80,
  0xff,
  0x1000,
  0x7fff_ffff,
  0x8000_0000,
  0xffff_f000,
  0xffff_ffff,
);
const value = fc.oneof(edge, fc.nat(0xffff), fc.integer({ min: 0, max: 0xffff_ffff }));

/** Writes of 1, 2, 4 and 8 bytes anywhere in the first `limit` bytes. */
const pokes = (limit: number) =>
  fc.array(
    fc.tuple(
      fc.nat(limit - 8),
      fc.constantFrom(1 as const, 2 as const, 4 as const, 8 as const),
      value,
    ),
    {
      minLength: 1,
      maxLength: 4,
    },
  );

function damage(
  bytes: Uint8Array,
  writes: readonly (readonly [number, 1 | 2 | 4 | 8, number])[],
): Uint8Array {
  const copy = bytes.slice();
  for (const [at, width, what] of writes) poke(copy, at, width, what % 2 ** (8 * width));
  return copy;
}

const vmlinux = elf({
  entry: 2 * MiB,
  segments: [
    { address: 2 * MiB, data: pattern(3000) },
    { address: 2 * MiB + 8192, data: pattern(3000), memorySize: 20_000 },
  ],
  notes: new Uint8Array(Buffer.concat([note("GNU", 3, pattern(20)), pvhNote(2 * MiB + 16)])),
});
const relocations = new Uint8Array(
  Uint32Array.of(0, 0x8020_0100, 0, 0x8020_0200, 0, 0x8020_0300).buffer,
);
const relocatable = new Uint8Array(Buffer.concat([vmlinux, relocations]));

const pack = (command: readonly string[], bytes: Uint8Array) =>
  bzImage(withSize(pipe(command, bytes), bytes.length), header);
const images = {
  gzip: pack(["gzip", "-n"], relocatable),
  zstd: pack(["zstd", "-c"], relocatable),
  LZ4: pack(["lz4", "-l", "-c"], relocatable),
};

/** Random numbers of the loader's, from the test's own. */
const random = fc
  .nat(0xff_ffff)
  .map(
    (seed) => (bytes: number) =>
      Uint8Array.from({ length: bytes }, (_, i) => seed >>> ((i % 3) * 8)),
  );
const entry = fc.constantFrom("auto" as const, "bzimage" as const, "direct" as const);

test("a bzImage whose header was changed", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.values(images)),
      pokes(0x290 - 0x1f1),
      entry,
      random,
      (image, writes, how, numbers) => {
        const shifted = writes.map(([at, width, what]) => [at + 0x1f1, width, what] as const);
        survives(damage(image, shifted), { entry: how, random: numbers });
      },
    ),
    { numRuns: 500 },
  );
});

test("a bzImage whose protected-mode part ends before its entry is refused", () => {
  const payload = images.zstd.slice(1024 + 4096);
  const short = { ...header, syssize: 0x20, payloadOffset: 0, payloadLength: 0, initSize: 1 };

  expect(() => small.load(bzImage(payload, short))).toThrow(
    "its syssize (512 bytes) ends before its 64-bit entry",
  );
});

test("a bzImage with any values in the fields that are used", () => {
  const fields = fc.record(
    {
      setupSects: fc.nat(255),
      syssize: value,
      loadflags: fc.nat(255),
      kernelAlignment: fc.oneof(
        value,
        fc.nat(31).map((bit) => 2 ** bit),
      ),
      relocatable: fc.nat(1),
      initrdAddrMax: value,
      cmdlineSize: value,
      payloadOffset: value,
      payloadLength: value,
      prefAddress: fc.oneof(
        value,
        fc.nat(32).map((bit) => 2 ** bit),
      ),
      initSize: value,
      jumpOffset: fc.nat(255),
    },
    { requiredKeys: [] },
  );
  const payload = images.zstd.slice(1024 + 4096);
  fc.assert(
    fc.property(fields, entry, random, (changed, how, numbers) => {
      const initramfs = small.initramfs(pattern(5000));
      survives(bzImage(payload, { ...header, ...changed }), {
        entry: how,
        random: numbers,
        initramfs,
      });
    }),
    { numRuns: 500 },
  );
});

test("a payload damaged anywhere", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.values(images)),
      fc.nat(0xffff),
      fc.nat(255),
      (image, where, byte) => {
        const damaged = image.slice();
        damaged[5120 + (where % (image.length - 5120))] = byte;
        survives(damaged, { entry: "direct" });
      },
    ),
    { numRuns: 500 },
  );
});

test("an unpacked kernel whose headers or relocations were changed", () => {
  const words = fc.array(
    fc.tuple(
      fc.nat(5),
      fc.oneof(
        value,
        fc.nat(0x4000).map((n) => 0x8020_0000 + n),
      ),
    ),
    {
      maxLength: 6,
    },
  );
  fc.assert(
    fc.property(pokes(64 + 3 * 56), words, random, (writes, places, numbers) => {
      const table = relocatable.length - 24;
      const changed = damage(relocatable, [
        ...writes,
        ...places.map(([i, word]) => [table + 4 * i, 4 as const, word] as const),
      ]);
      const packed = withSize(new Uint8Array(gzipSync(changed, { level: 1 })), changed.length);
      survives(bzImage(packed, header), { random: numbers });
    }),
    { numRuns: 500 },
  );
});

test("an ELF file whose headers or notes were changed", () => {
  const notes = 4096 + 4096 + 4096;
  const inNotes = pokes(80).map((writes) =>
    writes.map(([at, width, what]) => [at + notes, width, what] as const),
  );
  fc.assert(
    fc.property(fc.oneof(pokes(64 + 3 * 56), inNotes), (writes) =>
      survives(damage(vmlinux, writes)),
    ),
    { numRuns: 500 },
  );
});

test("a file cut anywhere", () => {
  const all = [...Object.values(images), vmlinux];
  fc.assert(
    fc.property(fc.constantFrom(...all), fc.nat(20_000), entry, (image, size, how) =>
      survives(image.slice(0, size % image.length), { entry: how }),
    ),
    { numRuns: 500 },
  );
});

test("any bytes at all", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => survives(bytes)));
});
