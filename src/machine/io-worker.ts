/**
 * The entry of an I/O worker's thread. Its first message says which machine and which worker; it never returns to the
 * event loop.
 */
import "../compile-late.ts";
import { runIoThread } from "./io-thread.ts";
import type { MachineSpec } from "./spec.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ spec: MachineSpec; index: number }>) => {
  runIoThread(data.spec, data.index);
};
