/** The entry of an I/O worker's thread. Its first message says which machine; it never returns to the event loop. */
import { parentPort } from "node:worker_threads";
import { runIoThread } from "./io-thread.ts";
import type { MachineSpec } from "./spec.ts";

parentPort?.once("message", ({ spec }: { spec: MachineSpec }) => {
  runIoThread(spec);
});
