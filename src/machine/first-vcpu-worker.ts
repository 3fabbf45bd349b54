/**
 * The entry of the first vCPU's thread, which loads what the machine boots before it is the vCPU. Its first message is
 * the order to load, its second says which machine; it never returns to the event loop then.
 */
import { ConfigError } from "../exit-codes.ts";
import type { BootState } from "../firmware/boot-state.ts";
import { prepareBoot } from "./boot.ts";
import { type LoadAnswer, type LoadOrder, LoadTurn } from "./loading.ts";
import { RamView } from "./ram-view.ts";
import { applyBootState } from "./vcpu-state.ts";
import { runVcpuThread, type VcpuOrder } from "./vcpu-thread.ts";

declare const self: Worker;

type Message = { readonly order: LoadOrder } | VcpuOrder;

/** Undefined when nothing was to be loaded here. */
let loaded: BootState | "failed" | undefined;

self.onmessage = ({ data }: MessageEvent<Message>) => {
  if ("order" in data) load(data.order);
  else runVcpuThread(data, point);
};

/** Whether the vCPU can be entered. */
function point(vcpu: number): boolean {
  if (loaded === "failed") return false;
  if (loaded) applyBootState(vcpu, loaded);
  return true;
}

function load({ plan, ram, turn }: LoadOrder): void {
  loaded = "failed";
  const ours = new LoadTurn(turn);
  if (!ours.take()) return;
  let answer: LoadAnswer;
  try {
    loaded = prepareBoot({ ...plan, memory: new RamView(ram) });
    answer = { notes: loaded.notes };
  } catch (error) {
    answer = failure(error);
  } finally {
    ours.end();
  }
  self.postMessage(answer);
}

function failure(error: unknown): LoadAnswer {
  if (error instanceof ConfigError) {
    const { message, option } = error;
    return { message, isConfigError: true, ...(option === undefined ? {} : { option }) };
  }
  const { stack, message } = error as Error;
  return { message: stack ?? message, isConfigError: false };
}
