/** What a vCPU does with each exit: one page of KVM's exit reasons, served in place. Allocates nothing on the way. */
import type { AccessSize } from "../bus/device.ts";
import type { EventRing } from "../bus/event-ring.ts";
import { EventKind, ResetSource } from "../bus/events.ts";
import type { PortBus } from "../bus/port-bus.ts";
import {
  ExitReason,
  KVM_EXIT_IO_OUT,
  KVM_SYNC_X86_REGS,
  KvmExitIo,
  KvmExitMmio,
  KvmRegs,
  KvmRun,
} from "../ffi/kvm-abi.ts";
import type { Board } from "./board.ts";
import { describeBadExit, describeFault } from "./exit-report.ts";
import type { Hold } from "./hold.ts";

const union = KvmRun.offsets.exit;
const ripHigh = KvmRun.offsets.s + KvmRegs.offsets.rip + 4;
/** Linux's kernel text lies in the last 2 GiB of the address space (Documentation/arch/x86/x86_64/mm.rst). */
const kernelTextHigh = 0xffff_ffff;

export class ExitServer {
  readonly #view: DataView;
  readonly #io: InstanceType<typeof KvmExitIo>;
  readonly #mmio: InstanceType<typeof KvmExitMmio>;
  readonly #ports: PortBus;
  /** The first exit from kernel text is still to come. */
  #kernelAwaited = false;

  constructor(
    readonly page: ArrayBuffer,
    readonly vcpu: number,
    readonly board: Board,
    readonly events: EventRing,
    readonly index: number,
    /** KVM_CAP_SYNC_REGS: registers can come with an exit. */
    readonly syncRegs: boolean,
  ) {
    this.#view = new DataView(page);
    this.#io = new KvmExitIo(this.#view, union);
    this.#mmio = new KvmExitMmio(this.#view, union);
    this.#ports = board.ports;
  }

  /** The vCPU is about to run, at power-on, after a reset or after a pause. */
  starts(): void {
    if (this.index !== 0) return;
    if (this.board.takeFirstEntry()) {
      this.events.emit(EventKind.firstEntry, this.index, 0);
      this.#awaitKernel(this.syncRegs);
    }
  }

  /** What the vCPU waits for before it goes on. */
  get hold(): Hold {
    return this.board.hold;
  }

  /** The next KVM_RUN completes the access that was served last, and comes back before the guest executes anything. */
  set immediateExit(on: boolean) {
    this.#view.setUint8(KvmRun.offsets.immediate_exit, on ? 1 : 0);
  }

  /** Serves the exit that KVM_RUN has just returned with. False when the vCPU must not go on by itself. */
  serve(): boolean {
    const view = this.#view;
    if (this.#kernelAwaited && view.getUint32(ripHigh, true) === kernelTextHigh) {
      this.events.emit(EventKind.kernelEntered, 0, 0);
      this.#awaitKernel(false);
    }
    switch (view.getUint32(KvmRun.offsets.exit_reason, true)) {
      case ExitReason.KVM_EXIT_IO:
        this.#port();
        return true;
      case ExitReason.KVM_EXIT_MMIO:
        this.#memory();
        return !this.hold.on;
      case ExitReason.KVM_EXIT_IOAPIC_EOI:
        this.board.endOfInterrupt(view.getUint8(union));
        return true;
      case ExitReason.KVM_EXIT_INTR:
      case ExitReason.KVM_EXIT_IRQ_WINDOW_OPEN:
        return true;
      case ExitReason.KVM_EXIT_SHUTDOWN:
        this.events.emit(EventKind.reset, ResetSource.tripleFault, this.index);
        return false;
      default:
        return this.#unknown();
    }
  }

  #port(): void {
    const view = this.#view;
    const io = this.#io;
    const size = io.size as AccessSize;
    const port = io.port;
    let at = io.data_offset;
    const end = at + size * io.count;
    if (io.direction === KVM_EXIT_IO_OUT) {
      for (; at < end; at += size) {
        const value =
          size === 1
            ? view.getUint8(at)
            : size === 2
              ? view.getUint16(at, true)
              : view.getUint32(at, true);
        this.#ports.write(port, size, value);
      }
      return;
    }
    for (; at < end; at += size) {
      const value = this.#ports.read(port, size);
      if (size === 1) view.setUint8(at, value);
      else if (size === 2) view.setUint16(at, value, true);
      else view.setUint32(at, value, true);
    }
  }

  #memory(): void {
    const mmio = this.#mmio;
    const data = union + KvmExitMmio.offsets.data;
    if (mmio.is_write) this.board.mmio.write(mmio.phys_addr, mmio.len, this.#view, data);
    else this.board.mmio.read(mmio.phys_addr, mmio.len, this.#view, data);
  }

  /** KVM copies the registers out at each exit only as long as the kernel's first one is awaited. */
  #awaitKernel(on: boolean): void {
    this.#kernelAwaited = on;
    this.#view.setBigUint64(KvmRun.offsets.kvm_valid_regs, on ? KVM_SYNC_X86_REGS : 0n, true);
  }

  /** KVM_RUN has failed: the host has nothing behind memory of the guest's. False, as `serve` says. */
  fault(): false {
    const text = describeFault(this.vcpu, this.index);
    this.events.emit(EventKind.badExit, ExitReason.KVM_EXIT_MEMORY_FAULT, this.index, text);
    return false;
  }

  #unknown(): boolean {
    const reason = this.#view.getUint32(KvmRun.offsets.exit_reason, true);
    const text = describeBadExit(this.vcpu, this.index, this.#view);
    this.events.emit(EventKind.badExit, reason, this.index, text);
    return false;
  }
}
