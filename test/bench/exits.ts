/**
 * `./dev bench exits`: what an exit costs through the real bus and the real device models, against a C program that does
 * the bare KVM_RUN loop on the same guest, in turns; and what of it is chv's own time.
 */

import { EventKind } from "../../src/bus/events.ts";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { ExitTotals } from "../../src/machine/exit-meter.ts";
import { Machine } from "../../src/machine/machine.ts";
import { buildGuest, buildHostProgram } from "../guests/build.ts";
import { runGuest } from "../guests/harness.ts";
import { report, row } from "./report.ts";

const runs = 7;
const count = 20_000;
/** The guest's phases, in its order, and how many exits each of their accesses makes. */
const phases = [
  { name: "port write us", exits: 1 },
  { name: "port read us", exits: 1 },
  { name: "mmio read us", exits: 1 },
  { name: "mmio write us", exits: 1 },
  { name: "serial transmit us", exits: 2 },
];
const firstCode = 0xc0;
/** The first round warms the code up. */
const rounds = 2;
const cmdline = `count=${count} rounds=${rounds}`;

const guest = await buildGuest("bench-exits");
const loop = await buildHostProgram("exits-loop", "test/bench/exits-loop.c");
const chv: number[][] = phases.map(() => []);
const peer: number[][] = phases.map(() => []);

for (let run = 0; run < runs; run++) {
  record(chv, await chvPhases());
  record(peer, loopPhases());
}
const command = `exits-loop bench-exits.elf '${cmdline}'`;
const rows = phases.map(({ name }, phase) =>
  row(name, "us", chv[phase]!, { name: "C loop", command, samples: peer[phase]! }),
);
const own: number[] = [];
for (let run = 0; run < runs; run++) own.push(await ownTime());
rows.push(row("own time per exit us", "us", own));
report("exits", rows);

/** Seconds of each phase, as µs an exit. */
function record(samples: number[][], seconds: number[]): void {
  for (const [phase, { exits }] of phases.entries()) {
    samples[phase]!.push((seconds[phase]! * 1e6) / count / exits);
  }
}

async function chvPhases(): Promise<number[]> {
  const { events, exitCode, stderr } = await runGuest({ guest: "bench-exits", cmdline });
  if (exitCode !== 0) throw new Error(`chv ended with ${exitCode}: ${stderr}`);
  const at = (code: number) => {
    const event = events.findLast(({ properties }) => properties?.code === code);
    if (!event) throw new Error(`no debug code ${code}`);
    return event.timestamp.secs + event.timestamp.nanos / 1e9;
  };
  return phases.map((_, phase) => at(firstCode + 2 * phase + 1) - at(firstCode + 2 * phase));
}

function loopPhases(): number[] {
  const { stdout } = Bun.spawnSync([loop, guest, cmdline]);
  const { phases } = JSON.parse(stdout.toString()) as { phases: { seconds: number }[] };
  return phases.slice(-chv.length).map(({ seconds }) => seconds);
}

/** µs an exit from the return of one KVM_RUN to the next entry, the clock's own cost taken off. */
async function ownTime(): Promise<number> {
  const buffer = new SharedArrayBuffer(ExitTotals.size);
  const args = ["--kernel", guest, "--cmdline", cmdline, "--memory", "64M"];
  const line = parseCommandLine([...args, "--serial", "null", "--console", "off"]);
  if (line.kind !== "boot") throw new Error("the bench's own command line is wrong");
  const ended = Promise.withResolvers<void>();
  const listener = {
    onEvent({ kind, text }: { kind: number; text: string }) {
      if (kind === EventKind.poweroff) ended.resolve();
      else if (kind === EventKind.threadFailed) ended.reject(new Error(text));
    },
    onNote() {},
  };
  const machine = new Machine(line.config, listener, { buffer, warmUp: count });
  machine.boot();
  await ended.promise;
  await machine.stop();
  const { exits, servedNs, clockNs } = new ExitTotals(buffer);
  return (servedNs / exits - clockNs) / 1000;
}
