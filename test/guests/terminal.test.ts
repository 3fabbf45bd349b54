import { describe, expect, test } from "bun:test";
import { close, Open, open } from "../../src/ffi/file.ts";
import { openPty } from "../../src/ffi/terminal.ts";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";

/** The settings of a terminal, in stty's words. */
function settings(path: string): string {
  return Bun.spawnSync(["stty", "-a", "-F", path]).stdout.toString();
}

/** chv with a guest that never ends, on a terminal of its own. */
async function onTerminal() {
  const { master, path } = openPty();
  Bun.spawnSync(["stty", "sane", "-F", path]);
  const slave = open(path, Open.readWrite | Open.noControllingTerminal);
  const sane = settings(path);
  const kernel = await buildGuest("bench-exits");
  const command = [...(await chvCommand()), "--kernel", kernel, "--memory", "64M"];
  command.push("--cmdline", "count=100000000", "--serial", "tty", "--console", "off");
  const child = Bun.spawn(command, { stdin: slave, stdout: slave, stderr: "pipe" });
  while (settings(path) === sane && child.exitCode === null) await Bun.sleep(10);
  return {
    ...{ child, path, sane, master },
    type: (text: string) => Bun.write(Bun.file(master), text),
    close() {
      close(slave);
      close(master);
    },
  };
}

describe("a terminal on standard input", () => {
  for (const [signal, code] of [
    ["SIGTERM", 0],
    ["SIGINT", 130],
    ["SIGHUP", 129],
    ["SIGQUIT", 131],
    ["SIGUSR1", 138],
    ["SIGUSR2", 140],
    ["SIGALRM", 142],
    ["SIGXCPU", 152],
  ] as const) {
    test(
      `is in raw mode while the guest runs, and as it was after ${signal}`,
      async () => {
        const { child, path, sane, close } = await onTerminal();

        expect(settings(path)).toContain("-icanon");
        child.kill(signal);

        expect(await child.exited).toBe(code);
        expect(settings(path)).toBe(sane);
        expect(await child.stderr.text()).toBe("");
        close();
      },
      guestTimeoutMs,
    );
  }

  test(
    "Ctrl-A x quits",
    async () => {
      const { child, path, sane, type, close } = await onTerminal();

      await type("\x01x");

      expect(await child.exited).toBe(0);
      expect(settings(path)).toBe(sane);
      close();
    },
    guestTimeoutMs,
  );
});

test(
  "a reader of standard output that goes away does not end the guest",
  async () => {
    const kernel = await buildGuest("suite");
    const command = [...(await chvCommand()), "--kernel", kernel, "--memory", "64M"];
    // more than a pipe holds: it cannot end before its reader has gone
    const words = `test=serial-output bytes=${96 * 1024}`;
    command.push("--cmdline", words, "--serial", "tty", "--console", "off");
    const script = 'set -o pipefail; "$@" | head -c 1 >&2';

    const child = Bun.spawnSync(["bash", "-c", script, "bash", ...command]);

    expect(child.exitCode).toBe(0);
    expect(child.stderr.toString()).toContain("output is lost from here on: EPIPE");
  },
  guestTimeoutMs,
);
