/**
 * Random requests to an image in memory, and what a crash at any point of them may leave: sound tables but for leaks,
 * and everything that was flushed.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ImageFile } from "./qcow2-check.ts";
import {
  afterCrash,
  type Done,
  memoryRig,
  openWrites,
  randomOf,
  type Survives,
} from "./qcow2-memory.ts";
import type { RigOptions } from "./qcow2-rig.ts";
import type { MadeImage } from "./qcow2-scenarios.ts";

const sector = 512;

/** What a sector was told to hold: 0 is zeroes, other numbers fill it. */
interface Told {
  readonly value: number;
  readonly begun: number;
  ended: number;
  /** It may hold what it held before. */
  weak: boolean;
  readonly durable: boolean;
}

interface Flush {
  readonly begun: number;
  ended: number;
}

export interface CrashRun {
  readonly start: Uint8Array;
  readonly record: readonly Done[];
  readonly history: readonly (readonly Told[])[];
  readonly flushes: readonly Flush[];
}

export interface CrashOptions {
  readonly seed: number;
  readonly steps: number;
  /** Most sectors of a request. */
  readonly most: number;
  /** What the disk holds at first, by sector. */
  readonly content?: Uint8Array;
  readonly rig?: RigOptions;
  /** Chances of each kind of request, in sixteenths: flush, discard, zero, read; the others write. */
  readonly weights?: readonly [number, number, number, number];
}

interface Job {
  readonly told: readonly Told[];
  readonly flush?: Flush;
  readonly reads?: boolean;
  readonly first: number;
  readonly count: number;
}

/** Runs random requests, several at a time, to their end. The image at `path` is not written. */
export function crashRun(path: string, options: CrashOptions): CrashRun {
  const random = randomOf(options.seed);
  const { rig, ring } = memoryRig(path, random, options.rig);
  const start = ring.image.content.slice();
  const sectors = rig.spec.layers[0]!.bytes / sector;
  const history: Told[][] = Array.from({ length: sectors }, (_, i) => [
    { value: firstValue(options.content, i), begun: -1, ended: -1, weak: false, durable: true },
  ]);
  const flushes: Flush[] = [];
  const jobs = new Map<number, Job>();
  const busy = new Set<number>();
  const [flushing, discarding, zeroing, reading] = options.weights ?? [2, 1, 2, 3];
  let value = 0;

  const begin = (slot: number) => {
    const begun = ring.clock;
    const kind = random(16);
    if (kind < flushing) {
      const flush = { begun, ended: Number.POSITIVE_INFINITY };
      flushes.push(flush);
      jobs.set(slot, { told: [], flush, first: 0, count: 0 });
      rig.startFlush(slot);
      return;
    }
    const count = 1 + random(options.most);
    const first = random(sectors - Math.min(count, sectors) + 1);
    const range = Array.from({ length: count }, (_, i) => first + i);
    if (range.some((number) => busy.has(number) || number >= sectors)) return;
    for (const number of range) busy.add(number);
    const [at, length] = [first * sector, count * sector];
    if (kind >= 16 - reading) {
      jobs.set(slot, { told: [], reads: true, first, count });
      rig.startRead(slot, at, length);
      return;
    }
    const discards = kind < flushing + discarding;
    const zeroes = !discards && kind < flushing + discarding + zeroing;
    const durable = !discards && random(8) === 0;
    const told = range.map((number) => {
      const one = discards || zeroes ? 0 : ++value;
      const entry = { value: one, begun, ended: Number.POSITIVE_INFINITY, weak: discards, durable };
      history[number]!.push(entry);
      return entry;
    });
    jobs.set(slot, { told, first, count });
    if (discards) rig.startDiscard(slot, at, length);
    else if (zeroes) rig.startZero(slot, at, length, random(2) === 0, durable);
    else rig.startWrite(slot, at, filled(told.map((one) => one.value)), durable);
  };

  const collect = () => {
    for (const [slot, error] of rig.ended) {
      const job = jobs.get(slot)!;
      if (job.flush && error === 0) job.flush.ended = ring.clock;
      if (job.reads && error === 0) expectRead(rig.memory(slot), job, history);
      for (const one of job.told) {
        one.ended = ring.clock;
        if (error !== 0) one.weak = true;
      }
      for (let i = 0; i < job.count; i++) busy.delete(job.first + i);
      jobs.delete(slot);
    }
    rig.ended.clear();
  };

  for (let step = 0, idle = 0; step < options.steps || jobs.size > 0; ) {
    const slot = random(rig.slots);
    if (step < options.steps && !jobs.has(slot)) {
      begin(slot);
      step++;
    }
    rig.image.turn();
    const before = jobs.size;
    collect();
    idle = jobs.size < before ? 0 : idle + 1;
    if (idle > 20_000) throw new Error(`test: ${jobs.size} requests do not end`);
  }
  rig.close();
  return { start, record: ring.record, history, flushes };
}

/** Nobody else has touched these sectors meanwhile: they hold what they were last told. */
function expectRead(found: Uint8Array, job: Job, history: readonly (readonly Told[])[]): void {
  for (let i = 0; i < job.count; i++) {
    const told = history[job.first + i]!;
    const known = told.slice(told.findLastIndex((one) => !one.weak));
    const value = wordOf(found.subarray(i * sector, (i + 1) * sector));
    if (known.some((one) => one.value === value)) continue;
    const values = known.map((one) => one.value).join(", ");
    throw new Error(`test: sector ${job.first + i} reads as ${value}, not ${values}`);
  }
}

/** The number that a sector is full of; -1 when it is not. */
function wordOf(found: Uint8Array): number {
  const words = new Uint32Array(found.buffer, found.byteOffset, sector / 4);
  for (let i = 1; i < words.length; i++) if (words[i] !== words[0]) return -1;
  return words[0]!;
}

/** What is wrong with an image that a crash after `cut` entries of the record left. */
export function judge(
  run: CrashRun,
  cut: number,
  after: Uint8Array,
  backing?: Uint8Array,
): string[] {
  const image = new ImageFile(after, backing);
  const wrong = [...image.check().corruptions];
  const next = run.record[cut]?.ended ?? Number.POSITIVE_INFINITY;
  const flushed = run.flushes
    .filter(({ ended }) => ended < next)
    .reduce((latest, { begun }) => Math.max(latest, begun), -1);
  for (const [number, told] of run.history.entries()) {
    const safe = (one: Told) =>
      !one.weak && (one.ended <= flushed || (one.durable && one.ended < next));
    const base = told.findLastIndex(safe);
    const known = told.slice(base).filter(({ begun }) => begun < next);
    const found = image.sector(number);
    if (found === undefined) continue;
    const value = wordOf(found);
    if (known.some((one) => one.value === value)) continue;
    wrong.push(`sector ${number} holds ${value}, not ${known.map((one) => one.value).join(", ")}`);
  }
  return wrong;
}

/** The image after a crash, with a part of what was not durable. */
export function crashed(run: CrashRun, cut: number, survives: Survives): Uint8Array {
  return afterCrash(run.start, run.record, cut, survives);
}

export interface TryOptions {
  /** One in so many cuts is looked at, and one in so many images by qemu-img too. */
  readonly every: number;
  readonly qemuEvery: number;
  /** Where a few writes are not durable, every set of them is tried. */
  readonly exhaustive?: boolean;
}

/** Most writes that are not durable of which every set is tried. */
const fewWrites = 5;

/** Cuts a run at its points, and throws what is wrong with what is left. How many images there were. */
export function tryCrashes(
  folder: string,
  run: CrashRun,
  made: MadeImage,
  options: TryOptions,
): number {
  const random = randomOf(run.record.length + options.every);
  let images = 0;
  const look = (cut: number, survives: Survives) => {
    const after = crashed(run, cut, survives);
    const wrong = judge(run, cut, after, made.backing);
    if (wrong.length > 0) throw new Error(`a crash after ${cut} calls: ${wrong.join("; ")}`);
    if (++images % options.qemuEvery === 0) checkByQemu(folder, after);
  };
  for (let cut = random(options.every); cut <= run.record.length; cut += options.every) {
    look(cut, () => false);
    look(cut, (_, index) => index === cut - 1); // the last alone
    look(cut, () => random(2) === 0);
    if (options.exhaustive !== true) continue;
    look(cut, () => true);
    const open = openWrites(run.record, cut);
    for (let set = 1; open.length <= fewWrites && set < 2 ** open.length; set++) {
      look(cut, (_, index) => ((set >> open.indexOf(index)) & 1) === 1);
    }
  }
  return images;
}

/** Leaks are allowed: status 3. Throws what qemu-img says of anything else. */
function checkByQemu(folder: string, image: Uint8Array): void {
  const path = join(folder, "crashed.qcow2");
  writeFileSync(path, image);
  const { status, stdout, stderr } = spawnSync("qemu-img", ["check", path], { encoding: "utf8" });
  if (status !== 0 && status !== 3) throw new Error(`qemu-img check: ${stdout}${stderr}`);
}

function filled(values: readonly number[]): Uint8Array {
  const words = new Uint32Array((values.length * sector) / 4);
  for (const [i, value] of values.entries()) {
    words.fill(value, (i * sector) / 4, ((i + 1) * sector) / 4);
  }
  return new Uint8Array(words.buffer);
}

function firstValue(content: Uint8Array | undefined, number: number): number {
  if (!content || content.length <= number * sector) return 0;
  return new DataView(content.buffer, content.byteOffset).getUint32(number * sector, true);
}
