import { expect, test } from "bun:test";
import { buildE820 } from "../../src/firmware/e820.ts";
import { MiB } from "./fake-ram.ts";
import { bzImage, elf, machine, pattern } from "./images.ts";

const xz = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);

/** Offsets in boot_params: Linux Documentation/arch/x86/zero-page.rst and boot.rst. */
const At = {
  rsdp: 0x070,
  extRamdiskImage: 0x0c0,
  extRamdiskSize: 0x0c4,
  extCmdLinePtr: 0x0c8,
  e820Entries: 0x1e8,
  sentinel: 0x1ef,
  header: 0x1f1,
  bootFlag: 0x1fe,
  magic: 0x202,
  version: 0x206,
  typeOfLoader: 0x210,
  loadflags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  cmdLinePtr: 0x228,
  setupData: 0x250,
  e820Table: 0x2d0,
};

test("boot_params hold the header, the loader's marks, the RSDP and the command line", () => {
  const { ram, load } = machine();
  const image = bzImage(xz, { setupData: 0xdead });
  image[0x1ef] = 0xff; // the sentinel, which a loader must not copy
  image[0x26c] = 0x77; // the first byte behind the header

  const { rsi } = load(image, { cmdline: "root=/dev/vda quiet äö" });

  expect(ram.read(rsi + At.header, 0x1fe - 0x1f1 + 2)).toEqual(image.slice(0x1f1, 0x200));
  expect(ram.read(rsi + 0x230, 0x20)).toEqual(image.slice(0x230, 0x250));
  expect(ram.u8(rsi + 0x26c)).toBe(0);
  expect(ram.u8(rsi + At.sentinel)).toBe(0);
  expect(ram.u8(rsi + At.typeOfLoader)).toBe(0xff);
  expect(ram.u8(rsi + At.loadflags)).toBe(1);
  expect(ram.u64(rsi + At.setupData)).toBe(0n);
  expect(ram.u64(rsi + At.rsdp)).toBe(0xe0000n);
  expect(ram.u32(rsi + At.extCmdLinePtr)).toBe(0);
  expect(ram.text(ram.u32(rsi + At.cmdLinePtr))).toBe("root=/dev/vda quiet äö");
  expect(ram.u32(rsi + At.ramdiskImage)).toBe(0);
  expect(ram.u32(rsi + At.ramdiskSize)).toBe(0);
});

test("the KASLR flag of a file is not believed", () => {
  const { ram, load } = machine();

  const { rsi } = load(bzImage(xz, { loadflags: 0x83 }));

  expect(ram.u8(rsi + At.loadflags)).toBe(0x81);
});

test("the memory map is passed entry by entry", () => {
  const { ram, load } = machine();

  const { rsi } = load(bzImage(xz));

  expect(ram.u8(rsi + At.e820Entries)).toBe(3);
  const entry = (i: number) => {
    const at = rsi + At.e820Table + 20 * i;
    return [ram.u64(at), ram.u64(at + 8), ram.u32(at + 16)];
  };
  expect(entry(0)).toEqual([0n, 0x9fc00n, 1]);
  expect(entry(1)).toEqual([0x9fc00n, 0x60400n, 2]);
  expect(entry(2)).toEqual([0x100000n, 0x3f00000n, 1]);
});

test("more than 128 ranges go on in setup_data", () => {
  const regions = [{ start: 0, length: 64 * MiB }];
  const { ram, load } = machine(regions);
  const holes = Array.from({ length: 100 }, (_, i) => ({
    start: 40 * MiB + i * 0x2000,
    length: 0x1000,
    type: 2,
  }));
  const e820 = buildE820(regions, holes);
  expect(e820.length).toBe(201);

  const { rsi } = load(bzImage(xz), { e820 });

  expect(ram.u8(rsi + At.e820Entries)).toBe(128);
  const node = Number(ram.u64(rsi + At.setupData));
  expect(ram.u64(node)).toBe(0n); // next
  expect(ram.u32(node + 8)).toBe(1); // SETUP_E820_EXT
  expect(ram.u32(node + 12)).toBe(73 * 20);
  const last = node + 16 + 72 * 20;
  expect(ram.u64(last)).toBe(BigInt(e820[200]!.start));
  expect(ram.u64(last + 8)).toBe(BigInt(e820[200]!.length));
});

test("a memory map beyond all bounds is refused", () => {
  const { load } = machine();
  const e820 = Array.from({ length: 4000 }, (_, i) => ({
    start: i * 64 * MiB,
    length: 64 * MiB,
    type: 1,
  }));

  expect(() => load(bzImage(xz), { e820 })).toThrow("Memory map: its 4000 ranges do not fit");
});

test("the initramfs lies page-aligned at the top of RAM", () => {
  const { ram, load, initramfs } = machine();
  const archive = pattern(10_000);

  const { rsi } = load(bzImage(xz), { initramfs: initramfs(archive) });

  const start = 64 * MiB - 3 * 4096;
  expect(ram.u32(rsi + At.ramdiskImage)).toBe(start);
  expect(ram.u32(rsi + At.ramdiskSize)).toBe(10_000);
  expect(ram.u32(rsi + At.extRamdiskImage)).toBe(0);
  expect(ram.read(start, 10_000)).toEqual(archive);
});

test("the initramfs stays below initrd_addr_max", () => {
  const { ram, load, initramfs } = machine();

  const { rsi } = load(bzImage(xz, { initrdAddrMax: 48 * MiB - 1, xloadflags: 1 }), {
    initramfs: initramfs(pattern(4096)),
  });

  expect(ram.u32(rsi + At.ramdiskImage)).toBe(48 * MiB - 4096);
});

test("an initramfs that fits only above 4 GiB goes there if the kernel can be loaded there", () => {
  const regions = [
    { start: 0, length: 26 * MiB },
    { start: 2 ** 32, length: 16 * MiB },
  ];
  const archive = pattern(4 * MiB);
  const { ram, load, initramfs } = machine(regions);

  const { rsi } = load(bzImage(xz), { initramfs: initramfs(archive) });

  // The kernel takes 16 to 24 MiB, 2 MiB are left above it, 15 below: the archive fits below.
  expect(ram.u32(rsi + At.ramdiskImage)).toBe(12 * MiB);

  const large = pattern(16 * MiB);
  const second = load(bzImage(xz), { initramfs: initramfs(large) });
  expect(ram.u32(second.rsi + At.ramdiskImage)).toBe(0);
  expect(ram.u32(second.rsi + At.extRamdiskImage)).toBe(1);
  expect(ram.u32(second.rsi + At.ramdiskSize)).toBe(16 * MiB);
  expect(ram.read(2 ** 32, 1000)).toEqual(large.slice(0, 1000));

  expect(() => load(bzImage(xz, { xloadflags: 1 }), { initramfs: initramfs(large) })).toThrow(
    "Initramfs initrd: no 16 MiB of free guest RAM that the kernel can reach; " +
      "give the guest more memory or a smaller initramfs",
  );
});

test("an empty initramfs is refused", () => {
  const { load, initramfs } = machine();

  expect(() => load(bzImage(xz), { initramfs: initramfs(new Uint8Array()) })).toThrow(
    "Initramfs initrd: the file is empty; give a cpio archive",
  );
});

test("a command line as long as the kernel takes is passed whole, a longer one refused", () => {
  const { ram, load } = machine();
  const image = bzImage(xz, { cmdlineSize: 100 });

  const { rsi } = load(image, { cmdline: "x".repeat(100) });

  expect(ram.text(ram.u32(rsi + At.cmdLinePtr))).toBe("x".repeat(100));
  expect(() => load(image, { cmdline: "x".repeat(101) })).toThrow(
    "Command line: it has 101 bytes, the kernel takes at most 100; shorten it",
  );
  expect(() => load(image, { cmdline: "ä".repeat(51) })).toThrow("it has 102 bytes");
  expect(() => load(image, { cmdline: "a\0b" })).toThrow("contains a NUL byte");
});

test("a kernel that claims to take any command line gets 64 KiB at most", () => {
  const { load } = machine();

  expect(() =>
    load(bzImage(xz, { cmdlineSize: 0xffff_ffff }), { cmdline: "x".repeat(65_536) }),
  ).toThrow("the kernel takes at most 65535");
});

test("the processor is in long mode, with 4 GiB mapped one to one", () => {
  const { ram, load } = machine();

  const { cr0, cr3, cr4, efer, rflags } = load(bzImage(xz));

  // Intel SDM volume 3A section 2.5: PE and PG, PAE, and volume 4's IA32_EFER: LME and LMA.
  expect(cr0 % 2).toBe(1);
  expect(cr0).toBeGreaterThanOrEqual(2 ** 31);
  expect(cr4 & 0x20).toBe(0x20);
  expect(efer).toBe(0x500);
  expect(rflags).toBe(2);
  const translate = (address: bigint): bigint => {
    const entry = (table: bigint, shift: bigint) =>
      ram.u64(Number(table & ~0xfffn) + Number((address >> shift) & 511n) * 8);
    const pml4e = entry(BigInt(cr3), 39n);
    const pdpte = entry(pml4e, 30n);
    const pde = entry(pdpte, 21n);
    expect([pml4e & 3n, pdpte & 0x83n, pde & 0x83n]).toEqual([3n, 3n, 0x83n]);
    return (pde & ~0x1fffffn) | (address & 0x1fffffn);
  };
  for (const address of [0n, 0x7000n, 0x1000200n, 0x7fffffffn, 0xbfffffffn, 0xffffffffn]) {
    expect(translate(address)).toBe(address);
  }
});

test("segments are flat, and the same in the GDT as in the registers", () => {
  const { ram, load } = machine();

  const { gdt, segments } = load(bzImage(xz));

  // boot.rst: __BOOT_CS is 0x10, execute and read, 64-bit; __BOOT_DS is 0x18, read and write.
  expect(segments.code).toMatchObject({ selector: 0x10, type: 0xb, l: 1, db: 0, s: 1, g: 1 });
  expect(segments.data).toMatchObject({ selector: 0x18, type: 3, db: 1, l: 0, s: 1, g: 1 });
  expect(segments.code.limit).toBe(0xffff_ffff);
  expect(gdt.limit).toBe(47);
  expect(ram.u64(gdt.address)).toBe(0n);
  expect(ram.u64(gdt.address + 0x10)).toBe(0x00af_9b00_0000_ffffn);
  expect(ram.u64(gdt.address + 0x18)).toBe(0x00cf_9300_0000_ffffn);
  expect(ram.u64(gdt.address + 0x20)).toBe(0x0000_8b00_0000_0067n);
});

test("an ELF kernel without a PVH note gets boot_params with a header made for it", () => {
  const { ram, load, initramfs } = machine();
  const code = pattern(5000);

  const state = load(
    elf({ entry: 2 * MiB + 8, segments: [{ address: 2 * MiB, data: code, memorySize: 9000 }] }),
    {
      initramfs: initramfs(pattern(100)),
    },
  );

  expect(state.mode).toBe("long64");
  expect(state.rip).toBe(2 * MiB + 8);
  expect(ram.read(2 * MiB, 5000)).toEqual(code);
  expect(ram.read(2 * MiB + 5000, 4000)).toEqual(new Uint8Array(4000));
  expect(ram.u8(2 * MiB + 9000)).toBe(0xa5);
  expect(ram.u16(state.rsi + At.bootFlag)).toBe(0xaa55);
  expect(ram.u32(state.rsi + At.magic)).toBe(0x53726448);
  expect(ram.u16(state.rsi + At.version)).toBeGreaterThanOrEqual(0x20c);
  expect(ram.u8(state.rsi + At.typeOfLoader)).toBe(0xff);
  expect(ram.u32(state.rsi + At.ramdiskImage)).toBe(64 * MiB - 4096);
});
