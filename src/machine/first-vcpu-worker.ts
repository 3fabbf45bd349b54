/**
 * The entry of the first vCPU's thread, which loads what the machine boots before it is the vCPU. Its first message is
 * the order to load, its second says which machine; it never returns to the event loop then. What is to be loaded after
 * a reset comes by the port.
 */
import "../compile-late.ts";
import type * as WorkerThreads from "node:worker_threads";
import { ConfigError } from "../exit-codes.ts";
import type { BootState } from "../firmware/boot-state.ts";
import { compileSoon } from "../jit-policy.ts";
import { prepareBoot } from "./boot.ts";
import { type LoadAnswer, type LoadOrder, LoadTurn } from "./loading.ts";
import { RamView } from "./ram-view.ts";
import { applyBootState } from "./vcpu-state.ts";
import { runVcpuThread, type VcpuOrder } from "./vcpu-thread.ts";

declare const self: Worker;

type Message =
  | { readonly order: LoadOrder }
  | (VcpuOrder & { readonly orders: WorkerThreads.MessagePort });

/** What is larger may have to be unpacked and relocated, by loops that are worth compiling at once. */
const smallKernel = 2 ** 20;

/** Undefined when nothing was to be loaded here. */
let loaded: BootState | "failed" | undefined;

self.onmessage = ({ data }: MessageEvent<Message>) => {
  if ("order" in data) {
    const answer = load(data.order);
    if (answer) self.postMessage(answer);
    return;
  }
  const { orders } = data;
  runVcpuThread(data, { point, loadAnew: (vcpu) => loadAnew(vcpu, orders) });
};

/** Whether the vCPU can be entered. */
function point(vcpu: number): boolean {
  if (loaded === "failed") return false;
  if (loaded) applyBootState(vcpu, loaded);
  return true;
}

function loadAnew(vcpu: number, orders: WorkerThreads.MessagePort): boolean {
  const { receiveMessageOnPort } = require("node:worker_threads") as typeof WorkerThreads;
  const answer = load(receiveMessageOnPort(orders)!.message as LoadOrder);
  const canRun = point(vcpu);
  self.postMessage(answer);
  Bun.gc(true); // a kernel that was unpacked: this thread makes too little else for a collection to come soon
  return canRun;
}

/** Undefined when it is too late to load. */
function load({ plan, ram, content, turn }: LoadOrder): LoadAnswer | undefined {
  loaded = "failed";
  const ours = new LoadTurn(turn);
  if (!ours.take()) return undefined;
  try {
    if (plan.kernel.size > smallKernel) compileSoon();
    const fresh = content === "fresh" || (content === "to discard" && new RamView(ram).discard());
    loaded = prepareBoot({ ...plan, memory: new RamView(ram, fresh) });
    return { notes: loaded.notes };
  } catch (error) {
    return failure(error);
  } finally {
    ours.end();
  }
}

function failure(error: unknown): LoadAnswer {
  if (error instanceof ConfigError) {
    const { message, option } = error;
    return { message, isConfigError: true, ...(option === undefined ? {} : { option }) };
  }
  const { stack, message } = error as Error;
  return { message: stack ?? message, isConfigError: false };
}
