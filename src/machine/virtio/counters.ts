/** What virtio devices count, by name: each share of a device counts for itself, and together they are the device's. */
import { BalloonCounters } from "../../devices/virtio/balloon-config.ts";
import { BlockCounter } from "../../devices/virtio/block-config.ts";
import { ConsoleCounters } from "../../devices/virtio/console-config.ts";
import { EntropyCounters } from "../../devices/virtio/entropy-config.ts";
import { NetCounters } from "../../devices/virtio/net-config.ts";
import { PmemCounters } from "../../devices/virtio/pmem-config.ts";
import { type BackendSpec, counterCount, interruptsAt, type PluggedVirtio } from "./spec.ts";

/** By place; what the host of every backend counts is behind them. */
const names: Readonly<Record<BackendSpec["kind"], readonly string[]>> = {
  balloon: BalloonCounters,
  block: Object.keys(BlockCounter),
  console: ConsoleCounters,
  entropy: EntropyCounters,
  net: NetCounters,
  pmem: PmemCounters,
};

/** The names of what a device with that backend counts. */
export function counterNames(kind: BackendSpec["kind"]): readonly string[] {
  return [...names[kind], "interrupts"];
}

/** What a device has counted since power-on of the machine. Numbers may be of slightly different moments. */
export function readCounters({ spec, counters }: PluggedVirtio): Record<string, number> {
  const count = (place: number): number => {
    let sum = 0;
    for (let at = place; at < counters.length; at += counterCount) sum += counters[at]!;
    return sum;
  };
  const { kind } = spec.backend;
  const all = names[kind].map((name, place): [string, number] => [name, count(place)]);
  return { ...Object.fromEntries(all), interrupts: count(interruptsAt) };
}
