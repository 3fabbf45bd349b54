/**
 * Random requests to an image in memory, and what a crash at any point of them may leave: sound tables but for leaks,
 * and everything that was flushed.
 */
import { ImageFile } from "./qcow2-check.ts";
import { afterCrash, type Done, memoryRig, randomOf } from "./qcow2-memory.ts";
import type { RigOptions } from "./qcow2-rig.ts";

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
  /** Chances of each kind of request, in sixteenths: flush, discard, zero; the others write. */
  readonly weights?: readonly [number, number, number];
}

interface Job {
  readonly told: readonly Told[];
  readonly flush?: Flush;
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
  const [flushing, discarding, zeroing] = options.weights ?? [2, 1, 2];
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
    const [at, length] = [first * sector, count * sector];
    if (discards) rig.startDiscard(slot, at, length);
    else if (zeroes) rig.startZero(slot, at, length, random(2) === 0, durable);
    else rig.startWrite(slot, at, filled(told.map((one) => one.value)), durable);
  };

  const collect = () => {
    for (const [slot, error] of rig.ended) {
      const job = jobs.get(slot)!;
      if (job.flush && error === 0) job.flush.ended = ring.clock;
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
    const words = new Uint32Array(found.buffer);
    const value = words[0]!;
    let whole = true;
    for (let i = 1; i < words.length; i++) whole &&= words[i] === value;
    if (!whole || !known.some((one) => one.value === value)) {
      const values = known.map((one) => one.value).join(", ");
      wrong.push(`sector ${number} holds ${value}${whole ? "" : " in part"}, not ${values}`);
    }
  }
  return wrong;
}

/** The image after a crash, with a part of what was not durable. */
export function crashed(run: CrashRun, cut: number, survives: (n: number) => boolean): Uint8Array {
  return afterCrash(run.start, run.record, cut, survives);
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
