/** The entry of a vCPU's thread. Its first message says which machine and which vCPU; it never returns to the event loop. */
import { parentPort } from "node:worker_threads";
import type { MachineSpec } from "./spec.ts";
import { runVcpuThread } from "./vcpu-thread.ts";

parentPort?.once("message", ({ spec, index }: { spec: MachineSpec; index: number }) => {
  runVcpuThread(spec, index);
});
