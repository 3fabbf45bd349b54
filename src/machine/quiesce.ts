/** Takes every virtio device from its driver, as a reset of the machine does, and waits for what is in flight. */
import { locked } from "../bus/lock.ts";
import type { MachineThreads } from "./threads.ts";
import type { PluggedVirtio } from "./virtio/spec.ts";

/** How long a reset waits for disks that answer slowly. */
const quiesceMs = 30_000;

/** Resolves when no backend touches guest memory any more. The vCPUs stand still. */
export async function quiesce(
  devices: readonly PluggedVirtio[],
  threads: MachineThreads,
): Promise<void> {
  const until = performance.now() + quiesceMs;
  for (const { device, lock, spec } of devices) {
    const { transport } = device;
    locked(lock, () => transport.writeStatus(0));
    while (!transport.handOver.settled) {
      if (threads.failed) throw new Error(`${spec.id} has requests in flight for ever`);
      if (performance.now() > until) throw new Error(`${spec.id} still has requests in flight`);
      await Bun.sleep(1);
    }
  }
}
