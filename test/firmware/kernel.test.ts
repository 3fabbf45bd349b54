import { expect, test } from "bun:test";
import { KernelError } from "../../src/firmware/kernel.ts";
import { MiB } from "./fake-ram.ts";
import { bzImage, elf, machine, pattern, pipe, withSize } from "./images.ts";

const kernel = elf({
  entry: 16 * MiB + 0x53,
  segments: [
    { address: 16 * MiB, data: pattern(100_000) },
    { address: 18 * MiB, data: pattern(5000), memorySize: 3 * MiB },
  ],
});

const gzip = pipe(["gzip", "-n"], kernel);
const zstd = withSize(pipe(["zstd", "-c"], kernel), kernel.length);
const lz4 = withSize(pipe(["lz4", "-l", "-c"], kernel), kernel.length);
const xz = withSize(pipe(["xz", "-c"], kernel), kernel.length);

test.each([
  ["gzip", gzip],
  ["zstd", zstd],
  ["LZ4", lz4],
])("--kernel-entry direct unpacks %s and enters the kernel proper", (_, payload) => {
  const { ram, load } = machine();

  const state = load(bzImage(payload), { entry: "direct" });

  expect(state.mode).toBe("long64");
  expect(state.rip).toBe(16 * MiB + 0x53);
  expect(state.kernelRange).toEqual({ start: 16 * MiB, end: 21 * MiB });
  expect(ram.read(16 * MiB, 100_000)).toEqual(pattern(100_000));
  expect(ram.read(18 * MiB, 5000)).toEqual(pattern(5000));
  expect(ram.read(18 * MiB + 5000, 1000)).toEqual(new Uint8Array(1000));
});

test.each([
  ["gzip", gzip, 16 * MiB + 0x53],
  ["zstd", zstd, 16 * MiB + 0x200],
  ["LZ4", lz4, 16 * MiB + 0x200],
  ["XZ", xz, 16 * MiB + 0x200],
])("of itself, %s is unpacked where that is quicker", (_, payload, rip) => {
  const { load } = machine();

  expect(load(bzImage(payload)).rip).toBe(rip);
});

test.each([gzip, zstd, lz4, xz])("--kernel-entry bzimage leaves any payload alone", (payload) => {
  const { load } = machine();

  expect(load(bzImage(payload), { entry: "bzimage" }).rip).toBe(16 * MiB + 0x200);
});

test("what only the kernel can unpack is mentioned, and refused if it has to be direct", () => {
  const { load } = machine();

  expect(load(bzImage(xz)).notes).toEqual([
    "The payload is XZ, which the kernel unpacks itself: LZ4 or zstd would start sooner",
  ]);
  expect(() => load(bzImage(xz), { entry: "direct" })).toThrow(
    "Kernel vmlinuz: its payload is XZ, which is not unpacked on the host; " +
      "leave --kernel-entry out, or say --kernel-entry bzimage",
  );
});

test("a payload that claims more than init_size is refused before it is unpacked", () => {
  const { load } = machine();
  const bomb = withSize(pipe(["zstd", "-c"], new Uint8Array(MiB)), 0xffff_ffff);

  expect(() => load(bzImage(bomb), { entry: "direct" })).toThrow(
    "Kernel vmlinuz: its zstd payload is damaged " +
      "(it says it unpacks to 4294967295 bytes, the header allows 8388608); fetch the file again",
  );
});

test("a payload that is no ELF file, or not the one its header describes, is refused", () => {
  const { load } = machine();
  const direct = { entry: "direct" } as const;
  const packed = (bytes: Uint8Array) =>
    bzImage(withSize(pipe(["zstd", "-c"], bytes), bytes.length), { initSize: 4 * MiB });
  const at = (address: number, memorySize: number) =>
    packed(elf({ entry: address, segments: [{ address, data: pattern(100), memorySize }] }));

  expect(() => load(packed(pattern(1000)), direct)).toThrow("its payload is no ELF file");
  expect(() => load(packed(kernel), direct)).toThrow("its payload does not fit its header");
  expect(() => load(at(14 * MiB, 100), direct)).toThrow("its payload does not fit its header");
  expect(() => load(at(16 * MiB, 2 ** 40), direct)).toThrow("its payload does not fit its header");
  expect(load(at(16 * MiB, 4 * MiB), direct).kernelRange.end).toBe(20 * MiB);
  const small = machine([{ start: 0, length: 18 * MiB }]);
  expect(() => small.load(at(16 * MiB, 4 * MiB), direct)).toThrow(
    "it needs 4 MiB of guest RAM at 0x1000000, below 4 GiB; give the guest more memory",
  );
});

test.each([
  ["neither a bzImage nor an ELF file but a PE image", "MZ and more"],
  ["neither a bzImage nor an ELF file but a qcow2 disk image", "QFI\xfb...."],
  ["neither a bzImage nor an ELF file but a script", "#!/bin/sh\n"],
  ["neither a bzImage nor an ELF file but a cpio archive", "07070100000001"],
  ["neither a bzImage nor an ELF file; give /boot/vmlinuz-*", "hello"],
  ["neither a bzImage nor an ELF file; give /boot/vmlinuz-*", ""],
])("refuses a file: it is %s", (message, text) => {
  const { load } = machine();
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));

  expect(() => load(bytes)).toThrow(KernelError);
  expect(() => load(bytes)).toThrow(`Kernel vmlinuz: it is ${message}`);
});

test("a guest without RAM for the boot tables is refused", () => {
  const { load } = machine([{ start: 0, length: 0x2_ffff }]);

  expect(() => load(kernel)).toThrow("Guest memory: the boot tables need RAM up to 0x30000");
});

test("a compressed vmlinux is told from a bzImage", () => {
  const { load } = machine();

  expect(() => load(gzip)).toThrow(
    "it is neither a bzImage nor an ELF file but gzip data; " +
      "unpack it first, or give /boot/vmlinuz-*",
  );
});
