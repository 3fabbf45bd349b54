import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
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

/** The lines of a file, each to its end. */
const saidIn = (file: string) => {
  const text = readFileSync(file, "utf8");
  return text.split("\n").slice(0, -1);
};

const outputOf = (name: string) => `${process.env.TMPDIR ?? "/tmp"}/chv-${process.pid}-${name}`;

test(
  "pauses in the midst of port reads: each read is served once and reaches the guest",
  async () => {
    const output = outputOf("pause");
    let pauses = 0;
    // how far a guest comes between two pauses is its host's affair: as many guests as it takes
    while (pauses <= 20) {
      const { machine, poweredOff } = await boot("pause", "count=60000", output);
      let running = true;
      const done = poweredOff.finally(() => {
        running = false;
      });

      for (let own = 0; running && own < 200; own++) {
        await machine.pause();
        pauses++;
        expect(machine.state).toBe("paused");
        await machine.resume();
        await Bun.sleep(2);
      }
      await done;
      await machine.stop();

      expect(await Bun.file(output).text()).toBe("reading\nok\n");
      await Bun.file(output).delete();
    }
  },
  guestTimeoutMs,
);

test(
  "paused while its processors wake each other, by IPI, timer and pin, a guest loses no wake-up",
  async () => {
    const output = outputOf("storm");
    // it plays for ever: a wake-up that gets lost ends its lines
    const { machine, poweredOff } = await boot("smp-storm", "cpus=4 rounds=50", output, 4);
    const failed = poweredOff.then(() => {
      throw new Error("the guest has ended");
    });
    failed.catch(() => {}); // it is looked at below
    let pauses = 0;
    const play = async (more: number, least: number) => {
      const [lines, count] = [saidIn(output).length + more, pauses + least];
      while (saidIn(output).length < lines || pauses < count) {
        await machine.pause();
        pauses++;
        await machine.resume();
        await Promise.race([failed, Bun.sleep(pauses % 7)]);
      }
    };

    await play(3, 20);
    await machine.reset();
    await play(10, 20);
    await machine.stop();

    const lives = saidIn(output).join("\n").split("up 4\n").slice(1);
    expect(lives).toHaveLength(2);
    for (const life of lives) {
      const lines = life.trimEnd().split("\n");
      expect(lines).toEqual(lines.map((_, i) => `passed ${50 * (i + 1)}`));
    }
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
    // what was in the ring goes out, and then nothing comes; a guest that runs would go on for hours
    let size = 0;
    for (let looks = 0; looks < 20; looks++) {
      if (Bun.file(output).size !== size) looks = 0;
      size = Bun.file(output).size;
      await Bun.sleep(20);
    }
    await machine.resume();
    while (Bun.file(output).size === size) await Bun.sleep(5);
    await machine.stop();

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
