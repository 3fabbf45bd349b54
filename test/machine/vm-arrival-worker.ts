/** A thread that looks for a VM before it is there; see vm-arrival.test.ts. */
import { type EarlySpec, VmArrival } from "../../src/machine/vm-arrival.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ vm: SharedArrayBuffer; begun: SharedArrayBuffer }>) => {
  const spec = new VmArrival(data.vm).complete({} as EarlySpec);
  const words = new Int32Array(data.begun);
  Atomics.store(words, 0, 1);
  Atomics.notify(words, 0);
  self.postMessage(spec.vcpuFds);
};
