/**
 * A vCPU: KVM_RUN, and the bus for whatever exits. The thread serves each exit in place and goes straight back; it
 * stops only when KVM_RUN has just returned for a signal, so that no access is left half done (see ARCHITECTURE.md,
 * parking).
 */

import { EventRing } from "../bus/event-ring.ts";
import { EventKind } from "../bus/events.ts";
import { Ask, ThreadControl, ThreadState } from "../bus/thread-control.ts";
import { windowOn } from "../ffi/block.ts";
import { openKickInGuest } from "../ffi/guest-kick.ts";
import { Entered, enterGuest } from "../ffi/kvm.ts";
import { MapFlag, mmap, munmap, Prot } from "../ffi/memory.ts";
import { awaitKick, blockKick, consumeKick, nameThread, threadId } from "../ffi/signals.ts";
import { compileSoon } from "../jit-policy.ts";
import { buildBoard } from "./board.ts";
import { ExitMeter } from "./exit-meter.ts";
import { ExitServer } from "./exits.ts";
import { type EarlySpec, VmArrival } from "./vm-arrival.ts";

/** The message to a vCPU's thread. */
export interface VcpuOrder {
  readonly spec: EarlySpec;
  readonly index: number;
  readonly arrival: SharedArrayBuffer;
}

/** What the first vCPU's thread loads; both point the vCPU at it, and are false when there is nothing to run. */
export interface Loader {
  point(vcpu: number): boolean;
  loadAnew(vcpu: number): boolean;
}

/**
 * Runs vCPU `index` until it is asked to leave; the first one puts the devices into their power-on state before it says
 * anything. Errors end in the event ring, never in an exception.
 */
export function runVcpuThread({ spec: early, index, arrival }: VcpuOrder, loader?: Loader): void {
  const spec = new VmArrival(arrival).complete(early);
  const control = new ThreadControl(spec.control, index);
  const events = new EventRing(spec.events, index);
  try {
    nameThread(`vcpu${index}`);
    const formerMask = blockKick();
    control.threadId = threadId();
    const board = buildBoard(spec, events);
    if (index === 0) {
      board.reset();
      board.expectFirstEntry();
    }
    const vcpu = spec.vcpuFds[index]!;
    const page = mmap(0, spec.runPageBytes, Prot.read | Prot.write, MapFlag.shared, vcpu);
    const exits = new ExitServer(
      windowOn(page, spec.runPageBytes),
      vcpu,
      board,
      events,
      index,
      spec.syncRegs,
    );
    const meter = spec.meter && new ExitMeter(spec.meter.buffer, spec.meter.warmUp);
    let canRun = loader?.point(vcpu) ?? true;
    openKickInGuest(vcpu, formerMask);
    const loadAnew = () => {
      canRun = loader!.loadAnew(vcpu);
    };
    compileSoon();
    while (park(control, loadAnew)) {
      if (!canRun) {
        control.askSelfToPark();
        continue;
      }
      control.say(ThreadState.running);
      exits.starts();
      if (meter) runMeasured(vcpu, control, exits, meter);
      else run(vcpu, control, exits);
    }
    munmap(page, spec.runPageBytes);
    control.say(ThreadState.gone);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    events.emit(EventKind.threadFailed, 0, 0, text);
    control.say(ThreadState.failed);
  }
}

/** Stands still until asked to run (true) or to leave (false), and loads when it is asked to. */
function park(control: ThreadControl, loadAnew: () => void): boolean {
  for (;;) {
    const asked = control.asked;
    if (asked === Ask.load) {
      loadAnew();
      control.askSelfToPark(Ask.load);
    } else if (asked !== Ask.park) return asked === Ask.run;
    control.say(ThreadState.parked);
    awaitKick();
  }
}

/** Runs the guest until something else is asked. */
function run(vcpu: number, control: ThreadControl, exits: ExitServer): void {
  if (!exits.hold.wait(control)) return;
  for (;;) {
    const entered = enterGuest(vcpu);
    if (entered === Entered.exit) {
      if (exits.serve() || goesOn(vcpu, control, exits)) continue;
    } else {
      returned(entered, control, exits);
    }
    if (control.asked !== Ask.run) return;
  }
}

/** The guest has been left without an exit: for a kick, or for good. */
function returned(entered: number, control: ThreadControl, exits: ExitServer): void {
  if (entered === Entered.interrupted) {
    consumeKick();
  } else {
    exits.fault();
    control.askSelfToPark();
  }
}

/**
 * After an exit that keeps the vCPU: true when what it waited for is there. False when it is to stop: of its own
 * accord, or as it was asked to while it waited; the access that it waits with is complete then.
 */
function goesOn(vcpu: number, control: ThreadControl, exits: ExitServer): boolean {
  if (!exits.hold.on) {
    control.askSelfToPark();
    return false;
  }
  if (exits.hold.wait(control)) return true;
  exits.immediateExit = true;
  while (enterGuest(vcpu) === Entered.exit) exits.serve();
  exits.immediateExit = false;
  return false;
}

/** The same, for a benchmark. */
function runMeasured(
  vcpu: number,
  control: ThreadControl,
  exits: ExitServer,
  meter: ExitMeter,
): void {
  if (!exits.hold.wait(control)) return;
  for (;;) {
    meter.enters();
    const entered = enterGuest(vcpu);
    meter.returned();
    if (entered === Entered.exit) {
      if (exits.serve() || goesOn(vcpu, control, exits)) continue;
    } else {
      returned(entered, control, exits);
    }
    if (control.asked !== Ask.run) break;
  }
  meter.store();
}
