import { expect, test } from "bun:test";
import { EventKind } from "../../src/bus/events.ts";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { Machine } from "../../src/machine/machine.ts";
import { buildGuest } from "./build.ts";
import { guestTimeoutMs, runGuest } from "./harness.ts";

/** A machine in this process, whose serial port goes to a file. */
async function boot(guest: string, cmdline: string, output: string, cpus = 2) {
  const kernel = await buildGuest(guest);
  const args = ["--kernel", kernel, "--cmdline", cmdline, "--memory", "64M"];
  const line = parseCommandLine([
    ...[...args, "--cpus", `${cpus}`],
    ...["--serial", `file=${output}`, "--console", "off"],
  ]);
  if (line.kind !== "boot") throw new Error("not a boot");
  const poweredOff = Promise.withResolvers<void>();
  const machine = new Machine(line.config, {
    onEvent({ kind, text }) {
      if (kind === EventKind.poweroff) poweredOff.resolve();
      if (kind === EventKind.threadFailed || kind === EventKind.badExit) {
        poweredOff.reject(new Error(text));
      }
    },
    onNote() {},
  });
  machine.boot();
  return { machine, poweredOff: poweredOff.promise };
}

const outputOf = (name: string) => `${process.env.TMPDIR ?? "/tmp"}/chv-${process.pid}-${name}`;

test(
  "pauses in the midst of port reads: each read is served once and reaches the guest",
  async () => {
    const output = outputOf("pause");
    const { machine, poweredOff } = await boot("pause", "count=60000", output);
    let pauses = 0;
    let running = true;
    const done = poweredOff.finally(() => {
      running = false;
    });

    while (running && pauses < 200) {
      await machine.pause();
      pauses++;
      expect(machine.state).toBe("paused");
      await machine.resume();
      await Bun.sleep(2);
    }
    await done;
    await machine.stop();

    expect(await Bun.file(output).text()).toBe("reading\nok\n");
    expect(pauses).toBeGreaterThan(20);
    await Bun.file(output).delete();
  },
  guestTimeoutMs,
);

test(
  "paused while its processors wake each other, by IPI, timer and pin, a guest loses no wake-up",
  async () => {
    const output = outputOf("storm");
    const { machine, poweredOff } = await boot("smp-storm", "cpus=4 rounds=50 lines=8", output, 4);
    let pauses = 0;
    let running = true;
    const done = poweredOff.finally(() => {
      running = false;
    });

    while (running) {
      await machine.pause();
      pauses++;
      await machine.resume();
      if (pauses === 20) await machine.reset();
      await Bun.sleep(pauses % 7);
    }
    await done;
    await machine.stop();

    const said = await Bun.file(output).text();
    expect(said.split("\n").slice(-10)).toEqual([
      ...[1, 2, 3, 4, 5, 6, 7, 8].map((line) => `passed ${50 * line}`),
      ...["over", ""],
    ]);
    expect(pauses).toBeGreaterThan(20);
    await Bun.file(output).delete();
  },
  guestTimeoutMs,
);

test(
  "a paused guest does nothing",
  async () => {
    const output = outputOf("still");
    const { machine } = await boot("bench-exits", "count=1000 rounds=100000", output);
    while (Bun.file(output).size < 1000) await Bun.sleep(5);

    await machine.pause();
    await Bun.sleep(100); // what was in the ring goes out
    const before = Bun.file(output).size;
    await Bun.sleep(200);
    const after = Bun.file(output).size;
    await machine.resume();
    while (Bun.file(output).size === after) await Bun.sleep(5);
    await machine.stop();

    expect(after).toBe(before);
    await Bun.file(output).delete();
  },
  guestTimeoutMs,
);

test(
  "a vCPU is stopped also where its user may queue no signals",
  async () => {
    const under = ["bash", "-c", 'ulimit -i 0; exec "$@"', "bash"];

    const { exitCode, stderr, stdout } = await runGuest({ guest: "hello", under });

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toContain("done");
  },
  guestTimeoutMs,
);
