/**
 * A vCPU's registers: what it starts with, and the state at creation that a reset restores. Called by the main thread,
 * for vCPUs whose threads stand still.
 */
import { allocate, Block } from "../ffi/block.ts";
import { ioctl, type Request } from "../ffi/ioctl.ts";
import {
  KVM_GET_DEBUGREGS,
  KVM_GET_FPU,
  KVM_GET_LAPIC,
  KVM_GET_MP_STATE,
  KVM_GET_MSRS,
  KVM_GET_NESTED_STATE,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XCRS,
  KVM_GET_XSAVE,
  KVM_SET_DEBUGREGS,
  KVM_SET_FPU,
  KVM_SET_LAPIC,
  KVM_SET_MP_STATE,
  KVM_SET_MSRS,
  KVM_SET_NESTED_STATE,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_VCPU_EVENTS,
  KVM_SET_XCRS,
  KVM_SET_XSAVE,
  KvmDebugregs,
  KvmFpu,
  KvmLapicState,
  KvmMpState,
  KvmMsrEntry,
  KvmMsrs,
  KvmNestedState,
  KvmRegs,
  KvmSregs,
  KvmVcpuEvents,
  KvmXcrs,
  KvmXsave,
} from "../ffi/kvm-abi.ts";
import { SystemError } from "../ffi/libc.ts";
import type { BootState, SegmentState } from "../firmware/boot-state.ts";

/** MSRs by number (Intel SDM volume 4). */
const Msr = { tsc: 0x10, miscEnable: 0x1a0, mtrrDefType: 0x2ff } as const;
/** MTRRs on, default type write-back; fast string operations on. */
const mtrrDefaultWriteBack = 0x806n;
const miscEnableFastString = 1n;
/** LVT entries in the LAPIC's page (SDM volume 3A, 11.5.1), and delivery modes in bits 10:8. */
const lvtLint0 = 0x350;
const lvtLint1 = 0x360;
const deliveryExtInt = 0x700;
const deliveryNmi = 0x400;

interface Part {
  readonly get: Request;
  readonly set: Request;
  readonly size: number;
  /** Some kernels lack some; without it the rest is still a whole reset. */
  readonly optional?: boolean;
}

/**
 * In the order in which a restore must set them: CPUID stays; SREGS (with the APIC base) before the APIC itself. First
 * a guest of the guest's ends: at a later step KVM would go back to the state of the guest's own hypervisor, over what
 * has been set by then.
 */
const parts: readonly Part[] = [
  {
    get: KVM_GET_NESTED_STATE,
    set: KVM_SET_NESTED_STATE,
    size: KvmNestedState.size,
    optional: true,
  },
  { get: KVM_GET_MP_STATE, set: KVM_SET_MP_STATE, size: KvmMpState.size },
  { get: KVM_GET_REGS, set: KVM_SET_REGS, size: KvmRegs.size },
  { get: KVM_GET_SREGS, set: KVM_SET_SREGS, size: KvmSregs.size },
  { get: KVM_GET_FPU, set: KVM_SET_FPU, size: KvmFpu.size },
  { get: KVM_GET_XCRS, set: KVM_SET_XCRS, size: KvmXcrs.size, optional: true },
  { get: KVM_GET_XSAVE, set: KVM_SET_XSAVE, size: KvmXsave.size, optional: true },
  { get: KVM_GET_LAPIC, set: KVM_SET_LAPIC, size: KvmLapicState.size },
  { get: KVM_GET_VCPU_EVENTS, set: KVM_SET_VCPU_EVENTS, size: KvmVcpuEvents.size },
  { get: KVM_GET_DEBUGREGS, set: KVM_SET_DEBUGREGS, size: KvmDebugregs.size, optional: true },
];

/** The state of one vCPU, as it was when captured. */
export class VcpuSnapshot {
  readonly #blocks: (Block | undefined)[];
  readonly #msrs: Block;

  constructor(
    readonly vcpu: number,
    msrIndexes: readonly number[],
  ) {
    this.#blocks = parts.map((part) => {
      const block = new Block(part.size);
      if (part.get === KVM_GET_NESTED_STATE) new KvmNestedState(block.view).size = part.size;
      try {
        ioctl(vcpu, part.get, block);
        return block;
      } catch (error) {
        if (part.optional && error instanceof SystemError) return undefined;
        throw error;
      }
    });
    this.#msrs = readMsrs(vcpu, msrIndexes);
  }

  /** Puts the vCPU back. Its thread must stand outside KVM_RUN. */
  restore(): void {
    for (const [index, part] of parts.entries()) {
      const block = this.#blocks[index];
      if (block) ioctl(this.vcpu, part.set, block);
    }
    writeMsrs(this.vcpu, this.#msrs);
  }
}

/** The MSRs of a list that this vCPU has, less the time-stamp counter, which goes on counting. */
function readMsrs(vcpu: number, indexes: readonly number[]): Block {
  let readable = indexes.filter((index) => index !== Msr.tsc);
  for (;;) {
    const block = msrBlock(readable);
    const count = ioctl(vcpu, KVM_GET_MSRS, block); // KVM stops at the first one that it refuses
    if (count === readable.length) return block;
    readable = readable.toSpliced(count, 1);
  }
}

/** Sets what it can: KVM stops at the first MSR that it refuses, which is skipped. */
function writeMsrs(vcpu: number, block: Block): void {
  const total = new KvmMsrs(block.view).nmsrs;
  const rest = new Block(KvmMsrs.size + total * KvmMsrEntry.size);
  let done = 0;
  while (done < total) {
    new KvmMsrs(rest.view).nmsrs = total - done;
    const from = KvmMsrs.size + done * KvmMsrEntry.size;
    rest.bytes.set(block.bytes.subarray(from), KvmMsrs.size);
    done += ioctl(vcpu, KVM_SET_MSRS, rest) + 1;
  }
}

function msrBlock(indexes: readonly number[]): Block {
  const block = new Block(KvmMsrs.size + indexes.length * KvmMsrEntry.size);
  new KvmMsrs(block.view).nmsrs = indexes.length;
  for (const [i, index] of indexes.entries()) {
    new KvmMsrEntry(block.view, KvmMsrs.size + i * KvmMsrEntry.size).index = index;
  }
  return block;
}

/** Sets one MSR; false when this KVM refuses it (an MSR that the machine can do without must not end it). */
function setMsr(vcpu: number, index: number, value: bigint): boolean {
  const block = msrBlock([index]);
  new KvmMsrEntry(block.view, KvmMsrs.size).data = value;
  return ioctl(vcpu, KVM_SET_MSRS, block) === 1;
}

/** What firmware would have done on every processor before an operating system starts. */
export function initialiseProcessor(vcpu: number): void {
  setMsr(vcpu, Msr.mtrrDefType, mtrrDefaultWriteBack);
  setMsr(vcpu, Msr.miscEnable, miscEnableFastString);
  const lapic = allocate(KvmLapicState);
  ioctl(vcpu, KVM_GET_LAPIC, lapic);
  lapic.view.setUint32(lvtLint0, deliveryExtInt, true);
  lapic.view.setUint32(lvtLint1, deliveryNmi, true);
  ioctl(vcpu, KVM_SET_LAPIC, lapic);
}

/** Points a vCPU that stands at its reset vector at a kernel's entry. */
export function applyBootState(vcpu: number, boot: BootState): void {
  const sregs = allocate(KvmSregs);
  ioctl(vcpu, KVM_GET_SREGS, sregs);
  const s = sregs.fields;
  const { code, data, task } = boot.segments;
  setSegment(s.cs, code);
  for (const segment of [s.ds, s.es, s.fs, s.gs, s.ss]) setSegment(segment, data);
  setSegment(s.tr, task);
  s.gdt.base = BigInt(boot.gdt.address);
  s.gdt.limit = boot.gdt.limit;
  s.idt.base = 0n;
  s.idt.limit = 0;
  s.cr0 = BigInt(boot.cr0);
  s.cr3 = BigInt(boot.cr3);
  s.cr4 = BigInt(boot.cr4);
  s.efer = BigInt(boot.efer);
  ioctl(vcpu, KVM_SET_SREGS, sregs);

  const regs = allocate(KvmRegs);
  for (const name of ["rip", "rsi", "rbx", "rsp", "rflags"] as const) {
    regs.fields[name] = BigInt(boot[name]);
  }
  ioctl(vcpu, KVM_SET_REGS, regs);
}

function setSegment(segment: InstanceType<typeof KvmSregs>["cs"], state: SegmentState): void {
  segment.base = BigInt(state.base);
  segment.limit = state.limit;
  segment.selector = state.selector;
  segment.type = state.type;
  segment.present = state.present;
  segment.dpl = state.dpl;
  segment.s = state.s;
  segment.db = state.db;
  segment.l = state.l;
  segment.g = state.g;
  segment.avl = state.avl;
  segment.unusable = 0;
}
