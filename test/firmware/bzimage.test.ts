import { expect, test } from "bun:test";
import { KernelError } from "../../src/firmware/kernel.ts";
import { MiB } from "./fake-ram.ts";
import { bzImage, type HeaderValues, machine, pattern, poke } from "./images.ts";

/**
 * A payload of a format that is not unpacked on the host: the kernel's decompressor is always used.
 */
const xz = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);

test("the protected-mode part lies at its preferred address and is entered at 0x200", () => {
  const { ram, load } = machine();
  const image = bzImage(xz);

  const state = load(image);

  expect(state.mode).toBe("long64");
  expect(state.rip).toBe(16 * MiB + 0x200);
  expect(state.kernelRange).toEqual({ start: 16 * MiB, end: 24 * MiB });
  expect(ram.read(16 * MiB, image.length - 1024)).toEqual(image.slice(1024));
});

test("setup_sects 0 means 4", () => {
  const { ram, load } = machine();
  const image = new Uint8Array(5 * 512 + 4096);
  image.set(bzImage(xz).subarray(0, 1024));
  image.set(pattern(4096), 5 * 512);
  poke(image, 0x1f1, 1, 0); // setup_sects
  poke(image, 0x1f4, 4, 4096 / 16); // syssize
  poke(image, 0x248, 4, 0); // payload_offset

  load(image, { entry: "bzimage" });

  expect(ram.read(16 * MiB, 4096)).toEqual(pattern(4096));
});

test("a last paragraph that the file cuts short is no error", () => {
  const { ram, load } = machine();
  const image = bzImage(xz, { payloadLength: 1 }).slice(0, -15);

  load(image, { entry: "bzimage" });

  expect(ram.u8(16 * MiB + image.length - 1024 - 1)).toBe(image.at(-1)!);
});

test("a kernel that says it needs less than its file holds has room for all of it", () => {
  const { load } = machine();

  const { kernelRange } = load(bzImage(xz, { initSize: 1 }));

  expect(kernelRange).toEqual({ start: 16 * MiB, end: 16 * MiB + 4096 + 16 });
});

test("without room where it prefers, a relocatable kernel goes to the next aligned place", () => {
  const { load } = machine([
    { start: 0, length: 20 * MiB },
    { start: 33 * MiB, length: 31 * MiB },
  ]);

  expect(load(bzImage(xz)).rip).toBe(34 * MiB + 0x200);
});

test("a kernel that is not relocatable has to have its preferred address", () => {
  const { load } = machine([
    { start: 0, length: 20 * MiB },
    { start: 33 * MiB, length: 31 * MiB },
  ]);

  expect(() => load(bzImage(xz, { relocatable: 0 }))).toThrow(
    "Kernel vmlinuz: it needs 8 MiB of guest RAM at 0x1000000, below 4 GiB; " +
      "give the guest more memory",
  );
});

test("a guest that is too small is told how much the kernel needs", () => {
  const { load } = machine([{ start: 0, length: 20 * MiB }]);

  expect(() => load(bzImage(xz))).toThrow(
    "Kernel vmlinuz: it needs 8 MiB of guest RAM at 0x1000000 or above, below 4 GiB; " +
      "give the guest more memory",
  );
});

const refused: readonly (readonly [string, HeaderValues])[] = [
  ["its boot protocol is 2.11", { version: 0x20b }],
  ["it has no 64-bit entry (XLF_KERNEL_64)", { xloadflags: 2 }],
  ["it is a zImage", { loadflags: 0 }],
  ["its kernel_alignment 0x0 is no power of two", { kernelAlignment: 0 }],
  ["its kernel_alignment 0x300000 is no power of two", { kernelAlignment: 0x30_0000 }],
  ["its pref_address 0x100000000 is above 4 GiB", { prefAddress: 2 ** 32 }],
  ["its pref_address 0x1100000 is above 4 GiB or not aligned", { prefAddress: 17 * MiB }],
  ["its init_size is 0 bytes", { initSize: 0 }],
  ["its init_size is 1073741825 bytes", { initSize: 2 ** 30 + 1 }],
  ["its cmdline_size is 0", { cmdlineSize: 0 }],
  ["the protected-mode part lies at 1024", { syssize: 2 ** 20 }],
  ["its payload (16 bytes) runs past the protected-mode part", { payloadOffset: 4097 }],
  ["its payload (4294967295 bytes) runs past", { payloadLength: 0xffff_ffff }],
  ["it is neither a bzImage nor an ELF file", { bootFlag: 0x55aa }],
  ["it is neither a bzImage nor an ELF file", { magic: 0 }],
];

test.each(refused)("refuses a header: %s", (message, changed) => {
  const { load } = machine();

  expect(() => load(bzImage(xz, changed))).toThrow(`Kernel vmlinuz: ${message}`);
  expect(() => load(bzImage(xz, changed))).toThrow(KernelError);
});

test("a file cut short is refused", () => {
  const { load } = machine();
  const image = bzImage(xz);

  expect(() => load(image.slice(0, 0x210))).toThrow("the setup header lies at 0, 656 bytes long");
  expect(() => load(image.slice(0, 4096))).toThrow("the protected-mode part");
});
