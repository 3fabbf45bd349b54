/**
 * The entry of a vCPU's thread. Its first message says which machine and which vCPU; it never returns to the event
 * loop.
 */
import type { MachineSpec } from "./spec.ts";
import { runVcpuThread } from "./vcpu-thread.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ spec: MachineSpec; index: number }>) => {
  runVcpuThread(data.spec, data.index);
};
