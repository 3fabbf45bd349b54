/**
 * The entry of a vCPU's thread. Its first message says which machine and which vCPU; it never returns to the event
 * loop.
 */
import "../compile-late.ts";
import { runVcpuThread, type VcpuOrder } from "./vcpu-thread.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<VcpuOrder>) => runVcpuThread(data);
