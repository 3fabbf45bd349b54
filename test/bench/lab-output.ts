/** What a guest of `./dev bench lab` has printed: lines `result NAME;RATE[;RATE]` and `cpu begin|end NAME STAT`. */

/** A measurement: what was done per second, and the ticks (10 ms) that threads of the VMM used meanwhile. */
export interface Sample {
  readonly name: string;
  readonly rate: number;
  /** Of the threads that move data. */
  readonly user: number;
  readonly system: number;
  /** Of the threads of the language's runtime: compilers and collectors. */
  readonly runtime: number;
}

interface Ticks {
  readonly user: number;
  readonly system: number;
}

/** By their names in /proc/PID/task/TID/stat (proc(5)). */
const movers = /^(io\d+$|iou-|IO io0|qemu-system)/;
const runtime = /^(JIT|JSC|Heap|mi-|ollector|Bun)/;

/** All samples in the order in which they were taken. */
export function samplesOf(output: string): Sample[] {
  const spent = new Map<string, { user: number; system: number; runtime: number }[]>();
  let before = new Map<string, Ticks>();
  let open: { user: number; system: number; runtime: number } | undefined;
  let last = "";
  for (const [, what, name, stat] of output.matchAll(/^cpu (begin|end) (\S+) (.*)$/gm)) {
    const [, thread, comm, rest] = /^(\d+) \((.*)\) (.*)$/.exec(stat!)!;
    const fields = rest!.split(" "); // the third and on
    const used = { user: Number(fields[11]), system: Number(fields[12]) };
    if (`${what} ${name}` !== last) {
      if (what === "begin") before = new Map();
      else {
        open = { user: 0, system: 0, runtime: 0 };
        spent.set(name!, [...(spent.get(name!) ?? []), open]);
      }
      last = `${what} ${name}`;
    }
    if (what === "begin") before.set(thread!, used);
    else {
      const { user = 0, system = 0 } = before.get(thread!) ?? {};
      if (movers.test(comm!)) {
        open!.user += used.user - user;
        open!.system += used.system - system;
      } else if (runtime.test(comm!)) {
        open!.runtime += used.user + used.system - user - system;
      }
    }
  }
  const results = output.matchAll(/^result (\S+?);([\d.]+)(?:;([\d.]+))?\s*$/gm);
  return [...results].map(([, name, ...values]) => ({
    name: name!,
    rate: values.reduce((sum, value) => sum + Number(value ?? 0), 0),
    ...(spent.get(name!)?.shift() ?? { user: 0, system: 0, runtime: 0 }),
  }));
}
