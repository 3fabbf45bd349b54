/**
 * The contract between the kernel loaders and the machine: what a boot is asked for, and the
 * registers that the first vCPU starts with. Plain data on both sides.
 */
import type { E820Entry } from "./e820.ts";
import type { GuestRam } from "./guest-ram.ts";

/**
 * Which entry of the kernel is used. `direct` decompresses a bzImage on the host and enters the
 * kernel proper, `bzimage` leaves that to the kernel's own decompressor, `auto` takes the quicker
 * one (docs/kernels.md).
 */
export type KernelEntry = "auto" | "bzimage" | "direct";

export interface BootOptions {
  readonly kernelFd: number;
  /** In bytes. */
  readonly kernelSize: number;
  /** For messages alone: the file is already open. */
  readonly kernelPath: string;
  readonly initramfs?: { readonly fd: number; readonly size: number; readonly path: string };
  /** Passed on as UTF-8, byte for byte. */
  readonly cmdline: string;
  readonly ram: GuestRam;
  /** The memory map the guest is told of; only its RAM entries are written to. */
  readonly e820: readonly E820Entry[];
  /** Guest-physical; 0 when there is no ACPI. */
  readonly rsdpAddress: number;
  readonly entry: KernelEntry;
  /** The file is a firmware, which finds its kernel itself. */
  readonly firmware?: boolean;
  readonly random: (bytes: number) => Uint8Array;
}

/** One segment register with its hidden part, field by field as in `struct kvm_segment`. */
export interface SegmentState {
  readonly selector: number;
  readonly base: number;
  /** In bytes, already expanded by the granularity bit, as KVM wants it. */
  readonly limit: number;
  readonly type: number;
  readonly present: 0 | 1;
  readonly dpl: number;
  readonly db: 0 | 1;
  readonly s: 0 | 1;
  readonly l: 0 | 1;
  readonly g: 0 | 1;
  readonly avl: 0;
}

/** What the first vCPU starts with. Registers that are not named are zero; interrupts are off. */
export interface BootState {
  readonly mode: "long64" | "protected32";
  readonly rip: number;
  readonly rsi: number;
  readonly rbx: number;
  readonly rsp: number;
  readonly rflags: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  readonly gdt: { readonly address: number; readonly limit: number };
  /** `data` is for ds, es, fs, gs and ss. */
  readonly segments: {
    readonly code: SegmentState;
    readonly data: SegmentState;
    readonly task: SegmentState;
  };
  /** Guest-physical: where the kernel lies, its BSS included; `end` is exclusive. */
  readonly kernelRange: { readonly start: number; readonly end: number };
  /** Lines for the log, such as why KASLR is off. */
  readonly notes: readonly string[];
}
