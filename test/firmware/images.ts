/**
 * Kernels made by hand: every offset below is written out from Linux
 * Documentation/arch/x86/boot.rst and from the System V gABI, not taken from the loaders.
 */
import type { BootOptions, BootState } from "../../src/firmware/boot-state.ts";
import { buildE820 } from "../../src/firmware/e820.ts";
import { loadKernel } from "../../src/firmware/kernel.ts";
import { FakeFiles, FakeRam, MiB } from "./fake-ram.ts";

type Width = 1 | 2 | 4 | 8;

/** Header fields of a bzImage that tests change: offset in the file, and width. */
export const Header = {
  jumpOffset: [0x201, 1],
  setupSects: [0x1f1, 1],
  syssize: [0x1f4, 4],
  bootFlag: [0x1fe, 2],
  magic: [0x202, 4],
  version: [0x206, 2],
  loadflags: [0x211, 1],
  initrdAddrMax: [0x22c, 4],
  kernelAlignment: [0x230, 4],
  relocatable: [0x234, 1],
  xloadflags: [0x236, 2],
  cmdlineSize: [0x238, 4],
  payloadOffset: [0x248, 4],
  payloadLength: [0x24c, 4],
  setupData: [0x250, 8],
  prefAddress: [0x258, 8],
  initSize: [0x260, 4],
} as const satisfies Record<string, readonly [number, Width]>;
export type HeaderValues = Partial<Record<keyof typeof Header, number>>;

export function poke(bytes: Uint8Array, at: number, width: Width, value: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (width === 1) view.setUint8(at, value);
  else if (width === 2) view.setUint16(at, value, true);
  else if (width === 4) view.setUint32(at, value, true);
  else view.setBigUint64(at, BigInt(value), true);
}

/** A bzImage of protocol 2.15 with one setup sector, 4 KiB of code and the payload behind it. */
export function bzImage(payload: Uint8Array, changed: HeaderValues = {}): Uint8Array {
  const setup = 2 * 512;
  const codeSize = 4096;
  const size = codeSize + Math.ceil(payload.length / 16) * 16;
  const image = new Uint8Array(setup + size);
  image.fill(0x90, setup, setup + codeSize);
  image.set(payload, setup + codeSize);
  const values: HeaderValues = {
    setupSects: 1,
    syssize: size / 16,
    bootFlag: 0xaa55,
    jumpOffset: 0x6a,
    magic: 0x5372_6448,
    version: 0x020f,
    loadflags: 1,
    initrdAddrMax: 0x7fff_ffff,
    kernelAlignment: 2 * MiB,
    relocatable: 1,
    xloadflags: 3,
    cmdlineSize: 2047,
    payloadOffset: codeSize,
    payloadLength: payload.length,
    prefAddress: 16 * MiB,
    initSize: 8 * MiB,
    ...changed,
  };
  for (const [name, value] of Object.entries(values) as [keyof typeof Header, number][]) {
    const [at, width] = Header[name];
    poke(image, at, width, value);
  }
  return image;
}

export interface ElfParts {
  readonly bits?: 32 | 64;
  readonly entry: number;
  readonly machine?: number;
  readonly type?: number;
  readonly segments: readonly {
    readonly address: number;
    readonly data: Uint8Array;
    readonly memorySize?: number;
  }[];
  /** The contents of a PT_NOTE segment. */
  readonly notes?: Uint8Array;
}

/**
 * An ELF executable: headers in the first 4 KiB, then each segment's bytes, each on a page of its
 * own.
 */
export function elf(parts: ElfParts): Uint8Array {
  const { bits = 64, entry, machine = 62, type = 2, segments, notes } = parts;
  const page = 4096;
  const wide = bits === 64;
  const word: Width = wide ? 8 : 4;
  const blobs = [...segments.map(({ data }) => data), ...(notes ? [notes] : [])];
  const offsets: number[] = [];
  let size = page;
  for (const blob of blobs) {
    offsets.push(size);
    size += Math.ceil(blob.length / page) * page;
  }
  const file = new Uint8Array(size);
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  poke(file, 16, 2, type);
  poke(file, 18, 2, machine);
  poke(file, 20, 4, 1);
  poke(file, 24, word, entry);
  const headerSize = wide ? 64 : 52;
  const entrySize = wide ? 56 : 32;
  poke(file, wide ? 32 : 28, word, headerSize); // e_phoff
  poke(file, wide ? 54 : 42, 2, entrySize); // e_phentsize
  poke(file, wide ? 56 : 44, 2, blobs.length); // e_phnum
  blobs.forEach((blob, i) => {
    const at = headerSize + i * entrySize;
    const segment = segments[i];
    const put = (offset64: number, offset32: number, value: number) =>
      poke(file, at + (wide ? offset64 : offset32), word, value);
    poke(file, at, 4, segment === undefined ? 4 : 1); // PT_NOTE, PT_LOAD
    put(8, 4, offsets[i]!);
    put(24, 12, segment?.address ?? 0); // p_paddr
    put(32, 16, blob.length); // p_filesz
    put(40, 20, segment?.memorySize ?? blob.length); // p_memsz
    put(48, 28, 4); // p_align
    file.set(blob, offsets[i]!);
  });
  return file;
}

/** One ELF note, aligned to 4. */
export function note(name: string, type: number, descriptor: Uint8Array): Uint8Array {
  const pad = (n: number) => Math.ceil(n / 4) * 4;
  const bytes = new Uint8Array(12 + pad(name.length + 1) + pad(descriptor.length));
  poke(bytes, 0, 4, name.length + 1);
  poke(bytes, 4, 4, descriptor.length);
  poke(bytes, 8, 4, type);
  bytes.set(new TextEncoder().encode(name), 12);
  bytes.set(descriptor, 12 + pad(name.length + 1));
  return bytes;
}

/** A note with a PVH entry point (XEN_ELFNOTE_PHYS32_ENTRY is 18). */
export function pvhNote(entry: number): Uint8Array {
  const descriptor = new Uint8Array(4);
  poke(descriptor, 0, 4, entry);
  return note("Xen", 18, descriptor);
}

/** Bytes that are all different from zero and from their neighbours. */
export function pattern(length: number): Uint8Array {
  const period = 251;
  const out = new Uint8Array(length);
  for (let at = 0; at < Math.min(period, length); at++) out[at] = 1 + at;
  for (let done = period; done < length; done *= 2) out.copyWithin(done, 0, length - done);
  return out;
}

/** Runs a program on bytes; its output. */
export function pipe(command: readonly string[], input: Uint8Array): Uint8Array {
  const result = Bun.spawnSync([...command], { stdin: input, stdout: "pipe", stderr: "pipe" });
  if (!result.success) throw new Error(`${command.join(" ")}: ${result.stderr}`);
  return new Uint8Array(result.stdout);
}

/** The payload that Linux's build makes with a compressor: the size of the input appended. */
export function withSize(packed: Uint8Array, size: number): Uint8Array {
  const payload = new Uint8Array(packed.length + 4);
  payload.set(packed);
  poke(payload, packed.length, 4, size);
  return payload;
}

/** A machine with 64 MiB, filled with 0xa5, and the usual hole below 1 MiB. */
export function machine(
  regions: readonly { start: number; length: number }[] = [{ start: 0, length: 64 * MiB }],
) {
  const files = new FakeFiles();
  const ram = new FakeRam(files, regions, 0xa5);
  const hole = { start: 0x9_fc00, length: 0x6_0400, type: 2 };
  const e820 = buildE820(regions, [hole]);
  const options = (kernel: Uint8Array, changed: Partial<BootOptions> = {}): BootOptions => ({
    kernelFd: files.open(kernel),
    kernelSize: kernel.length,
    kernelPath: "vmlinuz",
    cmdline: "console=ttyS0",
    ram,
    e820,
    rsdpAddress: 0xe_0000,
    entry: "auto",
    random: (bytes) => new Uint8Array(bytes),
    ...changed,
  });
  const load = (kernel: Uint8Array, changed: Partial<BootOptions> = {}): BootState =>
    loadKernel(options(kernel, changed), files);
  const initramfs = (bytes: Uint8Array) => ({
    fd: files.open(bytes),
    size: bytes.length,
    path: "initrd",
  });
  return { files, ram, e820, options, load, initramfs };
}
