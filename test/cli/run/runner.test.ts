/** The runner itself, on this host: its ports are a terminal for its lines, and files or pipes for the command's bytes. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bootScript } from "../../../src/cli/run/config.ts";
import { Block } from "../../../src/ffi/block.ts";
import { close, Open, open, readSome, writeAll } from "../../../src/ffi/file.ts";
import { openPty } from "../../../src/ffi/terminal.ts";

const python = "/usr/bin/python3";
const script = join(import.meta.dir, "../../../src/cli/run/runner.py");
/** A fuse: what takes so long does not come. */
const deadlineMs = 300_000;
/** The runner where each of its threads but the first waits for a processor after it has read. */
const slowly = `
import os, sys, threading, time
read = os.read
def slow(fd, count):
    data = read(fd, count)
    if threading.current_thread() is not threading.main_thread():
        time.sleep(0.1)
    return data
os.read = slow
exec(open(sys.argv[1]).read())`;

class Rig {
  readonly folder = mkdtempSync(join(tmpdir(), "chv-runner-"));
  readonly #pty = openPty();
  readonly #slave = open(this.#pty.path, Open.readWrite | Open.noControllingTerminal);
  readonly #block = new Block(4096);
  #child: Bun.Subprocess | undefined;
  #heard = "";

  constructor() {
    symlinkSync(this.#pty.path, this.path("org.chv.run"));
    for (const name of ["stdin", "stdout", "stderr"])
      writeFileSync(this.path(`org.chv.${name}`), "");
    writeFileSync(this.path("systemctl"), `#!/bin/sh\necho "$@" >${this.path("off")}\n`, {
      mode: 0o755,
    });
  }

  path(name: string): string {
    return join(this.folder, name);
  }
  output(name: "stdout" | "stderr"): string {
    return readFileSync(this.path(`org.chv.${name}`), "utf8");
  }

  start(boot = "now", program: readonly string[] = [script]): void {
    if (boot === "now") writeFileSync(this.path("over"), "");
    this.#child = Bun.spawn([python, ...program], {
      env: { CHV_RUN_PORTS: this.folder, CHV_RUN_BOOT_OVER: this.path("over"), PATH: this.folder },
      ...{ stdout: "inherit", stderr: "inherit" },
    });
  }

  say(line: string): void {
    writeAll(this.#pty.master, Buffer.from(`${line}\n`));
  }

  /** The next line that begins so. */
  async line(start: string): Promise<string> {
    const until = Date.now() + deadlineMs;
    for (;;) {
      const count = readSome(this.#pty.master, this.#block.address, 4096);
      if (count > 0) this.#heard += Buffer.from(this.#block.bytes.subarray(0, count)).toString();
      const lines = this.#heard.split("\n");
      const at = lines.slice(0, -1).findIndex((line) => line.startsWith(start));
      if (at >= 0) {
        this.#heard = lines.slice(at + 1).join("\n");
        return lines[at]!;
      }
      if (Date.now() > until) throw new Error(`no line "${start}", only: ${this.#heard}`);
      await Bun.sleep(1);
    }
  }

  /** Resolves when the runner has read so many bytes of the commands' input. */
  async inputRead(bytes: number): Promise<void> {
    const fds = `/proc/${this.#child!.pid}/fd`;
    const input = this.path("org.chv.stdin");
    const fd = readdirSync(fds).find((name) => readlinkSync(join(fds, name)) === input);
    const isRead = new RegExp(`^pos:\\t${bytes}$`, "m");
    while (!isRead.test(readFileSync(`${fds}info/${fd}`, "utf8"))) await Bun.sleep(1);
  }

  /** Starts a command. */
  async ask(argv: readonly string[], more: object = {}, program = [script]): Promise<void> {
    this.start("now", program);
    await this.line("ready");
    this.say(JSON.stringify({ argv, env: {}, sync: false, ...more }));
  }

  /** How a command ended: "exited 0", with what it put out. */
  async run(argv: readonly string[], more: object = {}) {
    await this.ask(argv, more);
    const end = await this.line("e");
    return { end, stdout: this.output("stdout"), stderr: this.output("stderr") };
  }

  /** Ends the runner. */
  async leave(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.exited();
  }

  exited(): Promise<number> {
    return this.#child!.exited;
  }

  close(): void {
    this.#child?.kill("SIGKILL");
    close(this.#slave);
    close(this.#pty.master);
    rmSync(this.folder, { recursive: true });
  }
}

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

test("it says that it is there at once, and is ready when the boot is over", async () => {
  rig.start("later");

  expect(await rig.line("hello")).toBe("hello 1");
  writeFileSync(rig.path("over"), "");
  expect(await rig.line("ready")).toBe("ready");
});

describe("a command", () => {
  test("has its output on two ports, and its status and bytes are told", async () => {
    const run = await rig.run(["sh", "-c", "echo out; echo error >&2; exit 7"]);

    expect(run).toEqual({ end: "exited 7 4 6", stdout: "out\n", stderr: "error\n" });
  });

  test("loses nothing that it put out, however late the runner's threads come to it", async () => {
    await rig.ask(["sh", "-c", "echo out; echo error >&2"], {}, ["-c", slowly, script]);

    expect(await rig.line("e")).toBe("exited 0 4 6");
    expect([rig.output("stdout"), rig.output("stderr")]).toEqual(["out\n", "error\n"]);
  });

  test("reads its input to the end, byte for byte", async () => {
    const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
    writeFileSync(rig.path("org.chv.stdin"), bytes);
    const { end } = await rig.run(["cat"]);

    expect(end).toBe("exited 0 300000 0");
    expect(readFileSync(rig.path("org.chv.stdout")).equals(bytes)).toBe(true);
  });

  test("gets its words as they are, its variables and its folder", async () => {
    const program = 'printf "%s|" "$@" "$A" "$B" "$HOME" "$PWD"';
    const { stdout } = await rig.run(["sh", "-c", program, "sh", "a b", "", "ü'\"$x"], {
      ...{ env: { A: "1 2", B: "=ö" }, workdir: "/usr" },
    });

    expect(stdout).toBe(`a b||ü'"$x|1 2|=ö|${process.env.HOME}|/usr|`);
  });

  test("that a signal ends is told so", async () => {
    await rig.ask(["sh", "-c", "echo; exec sleep 100"]);
    await rig.line("started");
    const until = Date.now() + deadlineMs;
    while (rig.output("stdout") === "" && Date.now() < until) await Bun.sleep(1);
    rig.say("signal 15");

    expect(await rig.line("killed")).toBe("killed 15 1 0");
  });

  test("that leaves a child behind with its output open has ended all the same", async () => {
    const { end, stdout } = await rig.run(["sh", "-c", "sleep 3 & echo done"]);

    expect([end, stdout]).toEqual(["exited 0 5 0", "done\n"]);
  });

  test.each([
    [["/nowhere/prog"], {}, 127, "chv run: /nowhere/prog: not found\n"],
    [["/etc/passwd"], {}, 126, "chv run: /etc/passwd: Permission denied\n"],
    [
      ["true"],
      { user: "nobody-here" },
      125,
      "chv run: --user nobody-here: there is no such user\n",
    ],
    [
      ["true"],
      { workdir: "/nowhere" },
      125,
      "chv run: --workdir /nowhere: there is no such folder\n",
    ],
  ])("that cannot be started says why: %j %j", async (argv, more, status, text) => {
    const { end, stderr } = await rig.run(argv, more);

    expect([end, stderr]).toEqual([`exited ${status} 0 ${text.length}`, text]);
  });
});

describe("what a command leaves running", () => {
  test("does not hold up its end, however much it writes", async () => {
    const { end, stdout } = await rig.run(["sh", "-c", "yes & exit 3"]);

    expect(end).toBe(`exited 3 ${stdout.length} 0`);
    await rig.leave();
    expect(rig.output("stdout").length).toBe(stdout.length);
  });

  test("does not write into the next command's output", async () => {
    const more = { env: {}, sync: false, more: true };
    const [go, done] = ["go", "done"].map((name) => rig.path(name));
    Bun.spawnSync(["mkfifo", go!, done!]);
    await rig.ask(["sh", "-c", `(read x <${go}; echo late; echo end >${done}) & echo one`], more);
    rig.say("input 0");
    expect(await rig.line("e")).toBe("exited 0 4 0");
    await rig.line("ready");
    rig.say(JSON.stringify({ argv: ["sh", "-c", `echo >${go}; cat ${done}; echo two`], ...more }));
    rig.say("input 0");

    expect(await rig.line("e")).toBe("exited 0 8 0");
    expect(rig.output("stdout")).toBe("one\nend\ntwo\n");
  });
});

describe("commands one after the other", () => {
  const more = { env: {}, sync: false, more: true };
  const input = (text: string) => appendFileSync(rig.path("org.chv.stdin"), text);

  test("each has its own input, to the byte that the host names", async () => {
    input("one\n");
    await rig.ask(["cat"], more);
    rig.say("input 4");
    expect(await rig.line("e")).toBe("exited 0 4 0");
    await rig.line("ready");
    rig.say(JSON.stringify({ argv: ["cat"], ...more }));
    rig.say("input 6");
    input("two");
    input("\n22");

    expect(await rig.line("e")).toBe("exited 0 6 0");
    expect(rig.output("stdout")).toBe("one\ntwo\n22");
  });

  test("input that comes before its command's line is that command's", async () => {
    input("one");
    await rig.ask(["cat"], more);
    rig.say("input 3");
    await rig.line("e");
    await rig.line("ready");
    input("two");
    await rig.inputRead(6);
    rig.say(JSON.stringify({ argv: ["cat"], ...more }));
    rig.say("input 3");

    expect(await rig.line("e")).toBe("exited 0 3 0");
    expect(rig.output("stdout")).toBe("onetwo");
  });

  test("what one does not read, the next does not get", async () => {
    input("x".repeat(300_000));
    await rig.ask(["sh", "-c", "exec <&-; exit 3"], more);
    expect(await rig.line("e")).toBe("exited 3 0 0");
    input("y");
    rig.say("input 300001");
    await rig.line("ready");
    input("mine");
    rig.say(JSON.stringify({ argv: ["cat"], ...more }));
    rig.say("input 4");
    await rig.line("e");

    expect(rig.output("stdout")).toBe("mine");
  });

  test("one that cannot be started is followed by the next, and the last by a power-off", async () => {
    await rig.ask(["/nowhere/prog"], more);
    rig.say("input 0");
    expect(await rig.line("e")).toStartWith("exited 127 ");
    await rig.line("ready");
    rig.say(JSON.stringify({ argv: ["sh", "-c", "kill -9 $$"], ...more }));
    rig.say("input 0");
    expect(await rig.line("killed")).toBe("killed 9 0 0");
    rig.say("poweroff");

    expect(await rig.exited()).toBe(0);
    expect(readFileSync(rig.path("off"), "utf8")).toBe("poweroff\n");
  });
});

test("it powers the machine off when it is told to", async () => {
  await rig.run(["true"]);
  rig.say("poweroff");

  expect(await rig.exited()).toBe(0);
  expect(readFileSync(rig.path("off"), "utf8")).toBe("poweroff\n");
});

test("the boot hook is a script that holds it whole", () => {
  expect(bootScript).toStartWith("#cloud-boothook\n#!/bin/sh\n");
  expect(Bun.spawnSync(["sh", "-n"], { stdin: Buffer.from(bootScript) }).exitCode).toBe(0);
  const [, inside] = /<<'CHV_RUNNER_ENDS'\n(.*)\nCHV_RUNNER_ENDS\n/s.exec(bootScript)!;
  expect(inside).toBe(readFileSync(script, "utf8"));
});
