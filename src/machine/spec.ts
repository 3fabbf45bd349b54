/**
 * One machine as plain data: numbers, strings, descriptors and SharedArrayBuffers. Every thread builds the same object
 * graph from it (see board.ts), so it is all that a worker is sent.
 */

import type { TerminalSizeSpec } from "./console/size.ts";
import type { TypedSpec } from "./console/typed.ts";
import type { RamRegion } from "./ram-view.ts";
import type { VirtioMmioSpec } from "./virtio/mmio.ts";
import type { VirtioSpec } from "./virtio/spec.ts";

/** A character device's far end, opened by the main thread. */
export interface FarEndSpec {
  readonly name: string;
  readonly mode: "null" | "tty" | "file" | "pty" | "socket";
  /** Written to; -1 when there is nowhere (null) or not yet (socket). */
  readonly outFd: number;
  /** `outFd` could not be made non-blocking: it is asked before each write. */
  readonly outBlocks: boolean;
  /** What it is, where writing depends on that. */
  readonly outKind?: "socket" | "pipe" | undefined;
  /** Read from; -1 when nothing can come. */
  readonly inFd: number;
  /** A listening unix socket; -1 otherwise. */
  readonly listenFd: number;
  /** The escape key is live: input is a person's terminal. */
  readonly escapeKeys: boolean;
  /** It is there until its input ends. */
  readonly leavesAtEnd?: boolean | undefined;
  /** What the API types. */
  readonly typed?: TypedSpec | undefined;
  /** The size of the terminal that it is. */
  readonly size?: TerminalSizeSpec | undefined;
}

/** A far end that shows what a guest's kernel says. */
export interface ConsoleSpec extends FarEndSpec {
  /** A ring of what was put out last; the serial port's output goes through it. */
  readonly output: SharedArrayBuffer;
}

/** The serial port's far end, and the rings between the two. */
export interface SerialSpec extends ConsoleSpec {
  readonly input: SharedArrayBuffer;
}

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
