import { expect, test } from "bun:test";
import { parseElf } from "../../src/firmware/elf.ts";
import { memoryFile } from "../../src/firmware/file-reader.ts";
import { chooseDistance, findRelocations, relocate } from "../../src/firmware/kaslr.ts";
import { MiB } from "./fake-ram.ts";
import { bzImage, elf, machine, pattern, pipe, withSize } from "./images.ts";
import { link } from "./linked-kernel.ts";

const linked = link(0xffff_ffff_8100_0000n);

/**
 * The table as linux/arch/x86/tools/relocs.c writes it, with and without the list that Linux 6.15
 * dropped.
 */
function table(lists: readonly (readonly number[])[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(lists.flatMap((list) => [0, ...list])).buffer);
}
const oldTable = table([linked.absolute64, linked.relative32, linked.absolute32]);

const image = (kernel: Uint8Array, appended: Uint8Array) =>
  new Uint8Array(Buffer.concat([kernel, appended]));

const parse = (bytes: Uint8Array) => {
  const file = memoryFile(bytes, "vmlinux");
  return { file, elf: parseElf(file) };
};

test("the linker made all three kinds of places", () => {
  expect(linked.absolute64.length).toBe(4);
  expect(linked.absolute32.length).toBe(2);
  expect(linked.relative32.length).toBe(1);
});

test.each([2, 64, 1000].map((n) => n * MiB))(
  "moving by %d gives what the linker gives there",
  (distance) => {
    const bytes = image(linked.file, oldTable);
    const { file, elf: parsed } = parse(bytes);
    const found = findRelocations(bytes, parsed);
    expect(found).toBeObject();

    relocate(bytes, { elf: parsed, table: found as never, distance }, file);

    const expected = link(0xffff_ffff_8100_0000n + BigInt(distance));
    for (const { offset, fileSize } of parse(expected.file).elf.segments) {
      expect(bytes.slice(offset, offset + fileSize)).toEqual(
        expected.file.slice(offset, offset + fileSize),
      );
    }
  },
);

test("the table of Linux 6.15 and later has two lists", () => {
  const bytes = image(linked.file, table([linked.absolute64, linked.absolute32]));

  const found = findRelocations(bytes, parse(bytes).elf);

  expect(found).toEqual({
    absolute64: Uint32Array.from(linked.absolute64),
    inverse32: new Uint32Array(),
    absolute32: Uint32Array.from(linked.absolute32),
  });
});

test.each([
  ["the kernel has no relocation table", new Uint8Array()],
  ["its relocation table is not made of words", new Uint8Array(7)],
  ["what follows the kernel is no relocation table", Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 0)],
  ["what follows the kernel is no relocation table", new Uint8Array(4)],
  ["what follows the kernel is no relocation table", new Uint8Array(16)],
])("%s", (reason, appended) => {
  const bytes = image(linked.file, appended);

  expect(findRelocations(bytes, parse(bytes).elf)).toBe(reason);
});

test("a place outside the kernel, or half outside, is refused", () => {
  const last = 0x8100_1000 + parse(linked.file).elf.segments[1]!.fileSize;
  const places: readonly (readonly [number[], number[]])[] = [
    [[], [0x8000_0000]],
    [[], [1]],
    [[], [0xffff_ffff]],
    [[], [last - 3]],
    [[last - 7], []],
    [[0x80ff_ffff], []],
  ];
  for (const [wide, narrow] of places) {
    const bytes = image(linked.file, table([wide, narrow]));
    const { file, elf: parsed } = parse(bytes);
    const found = findRelocations(bytes, parsed);
    expect(() =>
      relocate(bytes, { elf: parsed, table: found as never, distance: 2 * MiB }, file),
    ).toThrow("outside the kernel; the file is damaged");
  }
});

test("the kernel stays within its virtual range, at multiples of its alignment", () => {
  const place = { linked: 16 * MiB, size: 50 * MiB, align: 2 * MiB };
  const last = new Uint8Array(6);
  const count = (1024 - 16 - 50) / 2 + 1; // as linux/arch/x86/boot/compressed/kaslr.c counts slots
  last[4] = (count - 1) >> 8;
  last[5] = (count - 1) & 0xff;

  expect(chooseDistance(place, () => last)).toBe((1024 - 16 - 50) * MiB);
  expect(chooseDistance(place, () => new Uint8Array(6))).toBe(0);
  expect(chooseDistance({ ...place, size: 1007 * MiB }, () => last)).toBeUndefined();
});

/** Random bytes whose number is `value`. */
const number = (value: number) => () => Uint8Array.of(0, 0, 0, 0, value >> 8, value & 255);

const payload = (bytes: Uint8Array) => withSize(pipe(["zstd", "-c"], bytes), bytes.length);

test("a bzImage is unpacked, moved in both address spaces, and told so", () => {
  const { ram, load } = machine();

  const state = load(bzImage(payload(image(linked.file, oldTable))), {
    entry: "direct",
    random: number(3),
  });

  const expected = link(0xffff_ffff_8100_0000n + BigInt(6 * MiB));
  const start = 16 * MiB + 3 * 2 * MiB;
  expect(state.rip).toBe(start);
  expect(state.kernelRange.start).toBe(start);
  expect(state.notes).toEqual([]);
  expect(ram.u8(state.rsi + 0x211)).toBe(1 | 2); // LOADED_HIGH, KASLR_FLAG
  for (const { offset, address, fileSize } of parse(expected.file).elf.segments) {
    expect(ram.read(address - 16 * MiB + start, fileSize)).toEqual(
      expected.file.slice(offset, offset + fileSize),
    );
  }
});

test.each([
  ["the command line says nokaslr", "quiet nokaslr ro", oldTable, {}],
  ["the kernel has no relocation table", "quiet", new Uint8Array(), {}],
  ["the kernel is not relocatable", "quiet", oldTable, { relocatable: 0 }],
])("KASLR is off, with a note: %s", (reason, cmdline, appended, changed) => {
  const { ram, load } = machine();

  const state = load(bzImage(payload(image(linked.file, appended)), changed), {
    entry: "direct",
    cmdline,
    random: number(3),
  });

  expect(state.notes).toEqual([`KASLR is off: ${reason}`]);
  expect(state.rip).toBe(16 * MiB);
  expect(ram.u8(state.rsi + 0x211)).toBe(1);
  const { offset, fileSize } = parse(linked.file).elf.segments[0]!;
  expect(ram.read(16 * MiB, fileSize)).toEqual(linked.file.slice(offset, offset + fileSize));
});

test.each(["mem=32M", "memmap=1M$17M", "hugepages=4"])(
  "with %s the physical base stays",
  (option) => {
    const { load } = machine();

    const state = load(bzImage(payload(image(linked.file, oldTable))), {
      entry: "direct",
      cmdline: `quiet ${option}`,
      random: number(3),
    });

    expect(state.rip).toBe(16 * MiB);
    expect(state.notes).toEqual([]);
  },
);

test("no physical base puts the kernel over the initramfs or outside RAM", () => {
  const kernel = bzImage(payload(image(linked.file, oldTable)));
  const { load, initramfs } = machine([{ start: 0, length: 32 * MiB }]);
  const archive = initramfs(pattern(9 * MiB));
  for (let value = 0; value < 24; value++) {
    const { start, end } = load(kernel, {
      entry: "direct",
      initramfs: archive,
      random: number(value),
    }).kernelRange;

    expect(start % (2 * MiB)).toBe(0);
    expect(start).toBeGreaterThanOrEqual(16 * MiB);
    expect(end).toBeLessThanOrEqual(23 * MiB);
  }
});

test("the zeros at the end of a segment are zeroed in RAM like its BSS", () => {
  const { ram, load } = machine();
  const data = new Uint8Array(300_000);
  data.set(pattern(70_001));
  const kernel = elf({
    entry: 16 * MiB,
    segments: [{ address: 16 * MiB, data, memorySize: 400_000 }],
  });

  load(bzImage(payload(kernel)), { entry: "direct", cmdline: "nokaslr" });

  expect(Buffer.compare(ram.read(16 * MiB, 300_000), data)).toBe(0);
  expect(ram.read(16 * MiB + 300_000, 100_000).every((byte) => byte === 0)).toBe(true);
  expect(ram.u8(16 * MiB + 400_000)).toBe(0xa5);
});
