/**
 * One machine as plain data: numbers, strings, descriptors and SharedArrayBuffers. Every thread builds the same object
 * graph from it (see board.ts), so it is all that a worker is sent.
 */

import type { SerialSpec } from "./console/spec.ts";
import type { RamRegion } from "./ram-view.ts";
import type { VirtioMmioSpec, VirtioSpec } from "./virtio/spec.ts";

export interface MachineSpec {
  readonly vmFd: number;
  readonly vcpuFds: readonly number[];
  readonly runPageBytes: number;
  /** Registers can come with an exit (KVM_CAP_SYNC_REGS). */
  readonly syncRegs: boolean;
  readonly ram: readonly RamRegion[];
  /** All registers of all devices. */
  readonly state: SharedArrayBuffer;
  readonly events: SharedArrayBuffer;
  /** Thread control words, by the numbers below. */
  readonly control: SharedArrayBuffer;
  /** The serial port, absent with `--serial off`. */
  readonly serial: SerialSpec | undefined;
  /** On PCI, in slot order. */
  readonly virtio: readonly VirtioSpec[];
  /** On virtio-mmio, in the order of their pages; then none are on PCI. */
  readonly virtioMmio?: readonly VirtioMmioSpec[] | undefined;
  /** eventfd that wakes the first I/O worker, and those of the others. */
  readonly ioWakeFd: number;
  readonly moreIoWakeFds?: readonly number[];
  /** timerfd of the RTC's interrupts. */
  readonly rtcTimerFd: number;
  /** timerfd of the watchdog, if there is one. */
  readonly watchdogTimerFd?: number | undefined;
  /** BARs answer from power-on on: a firmware that knows no more than virtio takes that for granted. */
  readonly barsAnswer?: boolean | undefined;
  /** Device number of pvpanic on PCI bus 0, if there is one. */
  readonly pvpanicSlot?: number | undefined;
  /** For a benchmark: vCPU 0's exits are measured into this buffer (see exit-meter.ts), after so many to warm up. */
  readonly meter?: { readonly buffer: SharedArrayBuffer; readonly warmUp: number } | undefined;
}

/** How many I/O workers the machine has, and the eventfd that wakes each. */
export const ioWorkers = ({ moreIoWakeFds = [] }: MachineSpec): number => 1 + moreIoWakeFds.length;
export const ioWakeFd = ({ ioWakeFd: first, moreIoWakeFds = [] }: MachineSpec, worker: number) =>
  worker === 0 ? first : moreIoWakeFds[worker - 1]!;

/** Most I/O workers, and most threads for chores. */
export const ioThreadsMax = 512;
const choreThreadsMax = 512;

/** Numbers of the threads in events' `source` and in the control words, in a machine of so many vCPUs. */
export const ThreadNumber = {
  vcpu: (index: number): number => index,
  io: (vcpus: number, index = 0): number => vcpus + index,
  chores: (vcpus: number, index: number): number => vcpus + ioThreadsMax + index,
  /** One more than the highest but main's. */
  end: (vcpus: number): number => vcpus + ioThreadsMax + choreThreadsMax,
  main: 0xffff,
} as const;

/** The name of a thread, as /proc and the log show it. */
export function threadName(source: number, vcpus: number): string {
  if (source === ThreadNumber.main) return "main";
  if (source < vcpus) return `vcpu${source}`;
  const other = source - vcpus;
  return other < ioThreadsMax ? `io${other}` : `chores${other - ioThreadsMax}`;
}

/** Room for the state of everything on the board. */
export const stateBytes = 256 * 1024;
