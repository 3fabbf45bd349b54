/** The registers of a virtio device that are the same on every transport, in the machine's shared memory. */
import type { SharedState } from "../../bus/shared-state.ts";
import { VirtioState } from "../../devices/virtio/device-state.ts";
import { VirtioTransport } from "../../devices/virtio/transport.ts";
import { signalEventfd } from "../../ffi/eventfd.ts";
import { bytes, struct } from "../../ffi/struct.ts";
import { ioWakeFd, type MachineSpec } from "../spec.ts";
import { counterCount, type WiredVirtio } from "./spec.ts";

const configSpaceBytes = 256;
const VirtioConfigState = struct("virtio-config", configSpaceBytes, {
  bytes: bytes(configSpaceBytes),
});

/** The next device's, and where its shares count; `config` is its configuration space, with room behind it. */
export function buildTransport(
  spec: MachineSpec,
  state: SharedState,
  { identity, config: initial, writable, workers }: WiredVirtio,
): { transport: VirtioTransport; config: Uint8Array; counters: Float64Array } {
  const config = state.struct(VirtioConfigState).bytes;
  const space = { bytes: config.subarray(0, initial.length), writable, initial };
  const wakeFds = workers.map((worker) => ioWakeFd(spec, worker));
  const wake = () => wakeFds.forEach(signalEventfd);
  const shares = workers.length;
  return {
    transport: new VirtioTransport(state.struct(VirtioState), identity, space, wake, shares),
    config,
    counters: state.doubles(counterCount * shares),
  };
}
