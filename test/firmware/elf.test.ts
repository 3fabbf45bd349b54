import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { parseElf } from "../../src/firmware/elf.ts";
import { memoryFile } from "../../src/firmware/file-reader.ts";
import { MiB } from "./fake-ram.ts";
import { type ElfParts, elf, machine, note, pattern, poke, pvhNote } from "./images.ts";

const folder = mkdtempSync("/tmp/chv-elf-");
afterAll(() => rmSync(folder, { recursive: true }));

const pvhSource = `
  .section .note.pvh, "a", @note
  .long 4, 4, 18
  .asciz "Xen"
  .long start
`;
const source = (withNote: boolean) => `
  ${withNote ? pvhSource : ""}
  .text
  .globl start
  .space 64
  start: hlt
  .data
  .long 0x12345678
  .bss
  .space 70000
`;

/** Assembles and links a kernel at 1 MiB; the path. */
function build(name: string, bits: 32 | 64, withNote: boolean): string {
  const path = `${folder}/${name}`;
  writeFileSync(`${path}.S`, source(withNote));
  const gcc = Bun.spawnSync([
    "gcc",
    `-m${bits}`,
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,-Ttext-segment=0x100000,-e,start,--build-id=sha1,-z,noexecstack",
    `${path}.S`,
    "-o",
    path,
  ]);
  expect(gcc.stderr.toString()).toBe("");
  return path;
}

/** What readelf says: the entry, and address, sizes and offset of what is to be loaded. */
function readelf(path: string) {
  const text = Bun.spawnSync(["readelf", "-lW", path]).stdout.toString();
  const entry = Number(/Entry point (0x[0-9a-f]+)/.exec(text)![1]);
  const segments = [...text.matchAll(/LOAD\s+(\S+) (\S+) (\S+) (\S+) (\S+)/g)].map((match) => ({
    offset: Number(match[1]),
    address: Number(match[3]),
    fileSize: Number(match[4]),
    memorySize: Number(match[5]),
  }));
  return { entry, segments };
}

test.each([
  [32, true],
  [64, true],
  [64, false],
] as const)("an ELF%d file (PVH note: %p) is read as readelf reads it", (bits, withNote) => {
  const path = build(`k${bits}${withNote}`, bits, withNote);
  const bytes = new Uint8Array(readFileSync(path));

  const image = parseElf(memoryFile(bytes, path));

  const { entry, segments } = readelf(path);
  expect(image.bits).toBe(bits);
  expect(image.entry).toBe(entry);
  expect([...image.segments]).toEqual(segments);
  expect(image.range.start).toBe(segments[0]!.address);
  expect(image.pvhEntry).toBe(withNote ? entry : undefined); // both are `start`
  expect(image.fileEnd).toBe(bytes.length); // ld puts the section headers last
});

test("a linked kernel is loaded, its BSS zeroed, and entered by its note", () => {
  const path = build("load", 64, true);
  const bytes = new Uint8Array(readFileSync(path));
  const { ram, load } = machine();

  const state = load(bytes);

  const { entry, segments } = readelf(path);
  expect(state).toMatchObject({ mode: "protected32", rip: entry });
  for (const { offset, address, fileSize, memorySize } of segments) {
    expect(ram.read(address, fileSize)).toEqual(bytes.slice(offset, offset + fileSize));
    expect(ram.read(address + fileSize, memorySize - fileSize).every((b) => b === 0)).toBe(true);
  }
  expect(ram.u8(entry)).toBe(0xf4); // hlt
});

test("other notes do not hide the PVH note, nor does a note of another owner pass for it", () => {
  const { load } = machine();
  const entry = Uint8Array.of(0, 0, 0x20, 0);
  const parts = { entry: 2 * MiB, segments: [{ address: 2 * MiB, data: pattern(100) }] };
  const first = Buffer.concat([note("GNU", 3, pattern(20)), pvhNote(2 * MiB + 4)]);

  expect(load(elf({ ...parts, notes: first })).rip).toBe(2 * MiB + 4);
  expect(load(elf({ ...parts, notes: note("Zen", 18, entry) })).mode).toBe("long64");
  expect(load(elf({ ...parts, notes: note("Xen", 6, entry) })).mode).toBe("long64");
  const wide = note("Xen", 18, Uint8Array.of(8, 0, 0x20, 0, 0, 0, 0, 0));
  expect(load(elf({ ...parts, notes: wide })).rip).toBe(2 * MiB + 8);
});

const code = { address: MiB, data: pattern(100) };
const refused: readonly (readonly [string, ElfParts])[] = [
  ["it is for another machine (ELF e_machine 183)", { entry: MiB, machine: 183, segments: [code] }],
  ["it is no executable (ELF e_type 1)", { entry: MiB, type: 1, segments: [code] }],
  ["it has nothing to load", { entry: MiB, segments: [{ ...code, data: new Uint8Array() }] }],
  ["its entry point 0x200000 lies in none", { entry: 2 * MiB, segments: [code] }],
  [
    "the segment at 0x100000 has 100 bytes in the file, but only 99 in memory",
    { entry: MiB, segments: [{ ...code, memorySize: 99 }] },
  ],
  [
    "its segments overlap at 0x100032",
    { entry: MiB, segments: [{ ...code, address: MiB + 50 }, code] },
  ],
  [
    "its segment at 0x100000, 1073741824 bytes long, does not lie in free guest RAM",
    { entry: MiB, segments: [{ ...code, memorySize: 2 ** 30 }] },
  ],
  [
    "its segment at 0x9fc00, 100 bytes long, does not lie",
    { entry: 0x9_fc00, segments: [{ ...code, address: 0x9_fc00 }] },
  ],
  [
    "its segment at 0x9000, 100 bytes long, does not lie", // the boot page tables
    { entry: 0x9000, segments: [{ ...code, address: 0x9000 }] },
  ],
  [
    "the segment at 0x4000000000000000 ends beyond all physical memory",
    { entry: MiB, segments: [code, { ...code, address: 2 ** 62 }] },
  ],
  [
    "it is a 32-bit ELF file without a PVH note",
    { bits: 32, entry: MiB, machine: 3, segments: [code] },
  ],
  [
    "its PVH entry point lies above 4 GiB",
    {
      entry: MiB,
      segments: [code],
      notes: note("Xen", 18, Uint8Array.of(0, 0, 16, 0, 1, 0, 0, 0)),
    },
  ],
  [
    "its PVH note has 2 bytes",
    { entry: MiB, segments: [code], notes: note("Xen", 18, Uint8Array.of(0, 0)) },
  ],
  [
    "its notes have more than 1048576 bytes",
    { entry: MiB, segments: [code], notes: new Uint8Array(MiB + 1) },
  ],
  ["its entry point 0x80 lies in none", { entry: MiB, segments: [code], notes: pvhNote(0x80) }],
  [
    "one of its notes runs past",
    { entry: MiB, segments: [code], notes: note("Xen", 18, pattern(8)).slice(0, -4) },
  ],
];

test.each(refused)("refuses: %s", (message, parts) => {
  const { load } = machine();

  expect(() => load(elf(parts))).toThrow(`Kernel vmlinuz: ${message}`);
});

test.each([
  ["its ELF class is 3", 4, 1, 3],
  ["it is not little-endian", 5, 1, 2],
  ["its program headers have 32 bytes", 54, 2, 32],
  ["it has 0 program headers", 56, 2, 0],
  ["it has 257 program headers", 56, 2, 257],
  ["the program header table lies at 4611686018427388000", 32, 8, 2 ** 62],
  ["the segment at 0x100000 lies at 8192", 64 + 8, 8, 8192],
] as const)("refuses a header: %s", (message, at, width, value) => {
  const { load } = machine();
  const file = elf({ entry: MiB, segments: [code] });
  poke(file, at, width, value);

  expect(() => load(file)).toThrow(`Kernel vmlinuz: ${message}`);
});

test("an ELF file cut short anywhere in its headers is refused", () => {
  const { load } = machine();
  const file = elf({ entry: MiB, segments: [code] });

  for (const size of [4, 15, 16, 63, 64, 119]) {
    expect(() => load(file.slice(0, size))).toThrow("but the file has");
  }
});

test("an ELF file has no decompressor to enter", () => {
  const { load } = machine();

  expect(() => load(elf({ entry: MiB, segments: [code] }), { entry: "bzimage" })).toThrow(
    "it is an ELF file, which has no decompressor of its own",
  );
});
