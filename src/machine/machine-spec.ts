/** What a machine's threads are told of it, with the descriptors that they wake one another by. */
import { EventRing } from "../bus/event-ring.ts";
import { createTimerfd } from "../ffi/epoll.ts";
import { createEventfd } from "../ffi/eventfd.ts";
import type { BootConfig } from "./config/vm.ts";
import type { Owned } from "./owned.ts";
import type { RamRegion } from "./ram-view.ts";
import { type MachineSpec, stateBytes } from "./spec.ts";
import { freeSlot, ownWorkers } from "./virtio/spec.ts";
import type { EarlySpec } from "./vm-arrival.ts";

type Plugged = Pick<MachineSpec, "virtio" | "virtioMmio">;

/** Throws ConfigError when PCI has no slot left. */
export function specOf(
  config: BootConfig,
  ram: readonly RamRegion[],
  control: SharedArrayBuffer,
  { virtio, virtioMmio }: Plugged,
  owned: Owned,
): Omit<EarlySpec, "serial"> {
  const own = ownWorkers([...virtio, ...(virtioMmio ?? [])]);
  return {
    ...{ ram, control, virtio, virtioMmio },
    state: new SharedArrayBuffer(stateBytes),
    events: new SharedArrayBuffer(EventRing.byteLength),
    ioWakeFd: owned.fd(createEventfd()),
    moreIoWakeFds: own.map(() => owned.fd(createEventfd())),
    rtcTimerFd: owned.fd(createTimerfd()),
    watchdogTimerFd: config.watchdog ? owned.fd(createTimerfd()) : undefined,
    pvpanicSlot: config.pvpanic ? freeSlot("--pvpanic", virtio) : undefined,
  };
}
