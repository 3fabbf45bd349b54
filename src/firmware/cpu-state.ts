/**
 * The processor states the two boot protocols ask for, and the tables behind them: descriptors
 * (Intel SDM volume 3A, section 3.4.5), identity page tables (section 4.5) and control registers.
 */
import { BootLayout } from "./boot-layout.ts";
import type { BootState, SegmentState } from "./boot-state.ts";
import type { GuestRam } from "./guest-ram.ts";

/** Selectors: boot.rst calls the first two __BOOT_CS and __BOOT_DS, and fixes their numbers. */
const Selector = { code: 0x10, data: 0x18, task: 0x20 } as const;
/** Six slots: null, unused, code, data, and a task segment, which takes two in 64-bit mode. */
const gdtSize = 6 * 8;

const CR0_PE = 1;
const CR0_ET = 0x10;
const CR0_NE = 0x20;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const EFER_LME_LMA = 0x500;
/** Bit 1 always reads 1; interrupts are off. */
const RFLAGS = 2;

const codeSegment = (l: 0 | 1): SegmentState => ({
  ...flat(Selector.code, 0xb),
  db: l === 1 ? 0 : 1,
  l,
});
const dataSegment: SegmentState = flat(Selector.data, 3);
/** A busy TSS: VMX does not enter a guest without one. */
const taskSegment: SegmentState = {
  ...flat(Selector.task, 0xb),
  limit: 0x67,
  db: 0,
  s: 0,
  g: 0,
};

/**
 * Base 0, 4 GiB; type 0xb is accessed code that can be read, 3 is accessed data that can be
 * written.
 */
function flat(selector: number, type: number): SegmentState {
  return {
    selector,
    base: 0,
    limit: 0xffff_ffff,
    type,
    present: 1,
    dpl: 0,
    db: 1,
    s: 1,
    l: 0,
    g: 1,
    avl: 0,
  };
}

/** The eight bytes of a descriptor with base 0, as two words. */
function descriptor(segment: SegmentState): [number, number] {
  const limit = segment.g === 1 ? segment.limit >>> 12 : segment.limit;
  const access = (segment.present << 7) | (segment.dpl << 5) | (segment.s << 4) | segment.type;
  const flags = (segment.g << 3) | (segment.db << 2) | (segment.l << 1);
  return [limit & 0xffff, ((flags << 20) | (limit & 0xf_0000) | (access << 8)) >>> 0];
}

/** Where a vCPU starts, for either state. */
export interface Entry {
  readonly rip: number;
  readonly rsi?: number;
  readonly rbx?: number;
  readonly kernelRange: BootState["kernelRange"];
  readonly notes: readonly string[];
}

/**
 * The state of boot.rst, "64-bit Boot Protocol": long mode, the first 4 GiB mapped one to one, flat
 * segments. Writes the tables into guest RAM.
 */
export function longMode(ram: GuestRam, entry: Entry): BootState {
  ram.write(BootLayout.pageTables, identityTables(BootLayout.pageTables));
  return {
    ...common(ram, codeSegment(1), entry),
    mode: "long64",
    cr0: CR0_PE + CR0_ET + CR0_NE + CR0_PG,
    cr3: BootLayout.pageTables,
    cr4: CR4_PAE,
    efer: EFER_LME_LMA,
  };
}

/**
 * The state of Xen's "x86/HVM direct boot ABI" (docs/misc/pvh.pandoc): 32-bit protected mode,
 * paging off, flat segments. Writes the descriptors into guest RAM.
 */
export function protectedMode(ram: GuestRam, entry: Entry): BootState {
  return {
    ...common(ram, codeSegment(0), entry),
    mode: "protected32",
    cr0: CR0_PE + CR0_ET,
    cr3: 0,
    cr4: 0,
    efer: 0,
  };
}

function common(ram: GuestRam, code: SegmentState, entry: Entry) {
  const table = new Uint32Array(gdtSize / 4);
  for (const segment of [code, dataSegment, taskSegment]) {
    table.set(descriptor(segment), segment.selector / 4);
  }
  ram.write(BootLayout.gdt, new Uint8Array(table.buffer));
  return {
    rip: entry.rip,
    rsi: entry.rsi ?? 0,
    rbx: entry.rbx ?? 0,
    rsp: BootLayout.stackTop,
    rflags: RFLAGS,
    gdt: { address: BootLayout.gdt, limit: gdtSize - 1 },
    segments: { code, data: dataSegment, task: taskSegment },
    kernelRange: entry.kernelRange,
    notes: entry.notes,
  };
}

/**
 * A PML4, a page-directory-pointer table and four page directories: 4 GiB in pages of 2 MiB, one to
 * one.
 */
function identityTables(address: number): Uint8Array {
  const present = 0x3; // writable too
  const largePage = 0x80;
  const tables = new Uint32Array((6 * 4096) / 4); // an entry is two words; the high one stays 0
  tables[0] = address + 0x1000 + present;
  for (let i = 0; i < 4; i++) tables[1024 + 2 * i] = address + 0x2000 + 0x1000 * i + present;
  for (let i = 0; i < 4 * 512; i++) tables[2048 + 2 * i] = i * 0x20_0000 + largePage + present;
  return new Uint8Array(tables.buffer);
}
