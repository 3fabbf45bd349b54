/** Consoles and named ports, driven by a guest of their own: test/guests/virtio-console. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Block } from "../../src/ffi/block.ts";
import { close, Open, open, readSome } from "../../src/ffi/file.ts";
import { openPty } from "../../src/ffi/terminal.ts";
import { buildGuest } from "./build.ts";
import {
  chvCommand,
  expectOk,
  type Guest,
  guestTimeoutMs,
  notes,
  runSuite,
  type SuiteOptions,
  startGuest,
  transports,
  verdicts,
} from "./harness.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-hvc-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const path = (name: string) => join(folder, `${name}${files++}`);

const guest = "virtio-console";
const poured = (bytes: number) => "0123456789abcdef".repeat(bytes / 16);

/** One test of the guest, running. */
const start = (name: string, { cmdline = "", ...options }: SuiteOptions): Promise<Guest> =>
  startGuest({ guest, cmdline: `test=${name} ${cmdline}`, ...options });

/** Waits until something is so. */
async function until(so: () => boolean, what: string | (() => string)): Promise<void> {
  const deadline = Date.now() + guestTimeoutMs;
  while (!so()) {
    if (Date.now() > deadline) {
      throw new Error(`not within the time: ${typeof what === "string" ? what : what()}`);
    }
    await Bun.sleep(5);
  }
}

/** A client of a unix socket, and what it has heard. */
class Client {
  text = "";
  gone = false;
  #socket: { write(text: string): number; end(): void } | undefined;

  static async at(socket: string): Promise<Client> {
    const client = new Client();
    client.#socket = await Bun.connect({
      unix: socket,
      socket: {
        data: (_, data) => {
          client.text += Buffer.from(data).toString("latin1");
        },
        close: () => {
          client.gone = true;
        },
      },
    });
    return client;
  }

  send(text: string): void {
    this.#socket!.write(text);
  }
  end(): void {
    this.#socket!.end();
  }
}

async function ended(running: Guest, name: string): Promise<void> {
  expectOk(name, await running.finish());
}

for (const transport of transports) {
  describe(`a console on ${transport}`, () => {
    test(
      "socket: what a client sends comes back; one that is late gets what was said before",
      async () => {
        const socket = path("s");
        const typed = "0123456789".repeat(50);
        const running = await start("console-echo", {
          ...{ transport, console: `socket=${socket}`, cmdline: `bytes=${typed.length}` },
        });
        await until(() => existsSync(socket), "a socket");
        const first = await Client.at(socket);
        await until(() => first.text.includes("ready\n"), "the first words");
        first.send(typed);
        await until(() => first.text.length === 6 + typed.length, "the echo");
        await ended(running, "console-echo");

        expect(first.text).toBe(`ready\n${typed}`);
      },
      guestTimeoutMs,
    );

    test(
      "pty: the same, byte for byte",
      async () => {
        const typed = "a\nb\rc\x03\x04\x11\x13 end";
        const running = await start("console-echo", {
          ...{ transport, console: "pty", cmdline: `bytes=${typed.length}` },
        });
        const said = /--console pty: (\/dev\/pts\/\d+)/;
        await until(() => said.test(running.stderr), "the pty's path");
        const slave = said.exec(running.stderr)![1]!;
        const fd = open(slave, Open.readWrite | Open.noControllingTerminal | Open.nonBlock);
        const terminal = Bun.file(fd);
        await Bun.write(terminal, typed);
        const heard = await readUntil(fd, 6 + typed.length).catch((error: Error) => {
          throw new Error(`${error.message}; guest: ${running.stdout}; chv: ${running.stderr}`);
        });
        close(fd);
        const { stdout, exitCode } = await running.finish();

        expect(heard).toBe(`ready\n${typed}`);
        expect(verdicts(stdout)).toEqual(["ok console-echo", "done"]);
        expect(exitCode).toBe(0);
      },
      guestTimeoutMs,
    );

    test(
      "file: every byte, in order",
      async () => {
        const file = path("log");
        const bytes = 200_000;
        const run = await runSuite("console-output,console-no-size", {
          ...{ guest, transport, console: `file=${file}`, cmdline: `bytes=${bytes}` },
        });

        expect(verdicts(run.stdout)).toEqual(["ok console-output", "ok console-no-size", "done"]);
        expect(run.stderr).toBe("");
        expect(readFileSync(file, "latin1")).toBe(poured(bytes));
      },
      guestTimeoutMs,
    );

    test(
      "null: it is taken",
      async () => {
        const run = await runSuite("console-output", {
          ...{ guest, transport, console: "null", cmdline: "bytes=200000" },
        });
        expectOk("console-output", run);
      },
      guestTimeoutMs,
    );

    test(
      "tty: what is typed on a pipe comes back on standard output",
      async () => {
        const serial = path("serial");
        const typed = "typed before the guest was there";
        const running = await start("console-echo", {
          ...{ transport, serial: `file=${serial}`, console: "tty", stdin: typed },
          cmdline: `bytes=${typed.length}`,
        });
        const { stdout, stderr, exitCode } = await running.finish();

        expect({ stdout, stderr, exitCode }).toEqual({
          stdout: `ready\n${typed}`,
          stderr: "",
          exitCode: 0,
        });
        expect(verdicts(readFileSync(serial, "utf8"))).toEqual(["ok console-echo", "done"]);
      },
      guestTimeoutMs,
    );
  });

  describe(`ports on ${transport}`, () => {
    test(
      "are found by their names, each with its own far end",
      async () => {
        const [socket, other] = [path("s"), path("s")];
        const running = await start("ports-echo", {
          ...{ transport, cmdline: "bytes=12" },
          args: [...["--port", `org.chv.0,socket=${socket}`, `shell,socket=${other},console=on`]],
        });
        await until(() => existsSync(other), "the sockets");
        const [one, two] = [await Client.at(socket), await Client.at(other)];
        one.send("port zero...");
        two.send("port one....");
        await until(() => one.text.length + two.text.length === 24, "both echoes");
        const run = await running.finish();

        expect([one.text, two.text]).toEqual(["port zero...", "port one...."]);
        expect(notes(run.stdout)).toEqual(
          new Map([
            ["port0", "org.chv.0"],
            ["port1", "shell console"],
            ["ports", "2"],
          ]),
        );
        expectOk("ports-echo", run);
      },
      guestTimeoutMs,
    );

    test(
      "are open while they have a client",
      async () => {
        const socket = path("s");
        const running = await start("ports-clients", {
          ...{ transport, args: ["--port", `agent,socket=${socket}`] },
        });
        await running.until("note waiting yes");
        const first = await Client.at(socket);
        await until(() => first.text === "hello\n", "a word");
        first.end();
        const second = await Client.at(socket);
        await until(() => second.text === "again\n", "a word for the second");
        await ended(running, "ports-clients");
      },
      guestTimeoutMs,
    );

    test(
      "take nonsense in their control queues; the rest costs the device, until its reset",
      async () => {
        const { stdout, stderr, exitCode } = await runSuite("ports-hostile", {
          ...{ guest, transport, args: ["--port", "one,mode=null", "--port", "two,mode=null"] },
        });

        expect(verdicts(stdout)).toEqual(["ok ports-hostile", "done"]);
        expect(stderr).toMatch(/__ports: the driver broke its queue: a control buffer of 8 bytes/);
        expect([stderr.trimEnd().split("\n").length, exitCode]).toEqual([1, 0]);
      },
      guestTimeoutMs,
    );
  });
}

describe("nothing is lost when a guest powers off with output on its way", () => {
  const bytes = 160_000; // more than a pipe holds, less than that and the queue
  test.each([
    ["a console", "console-last-words", (fifo: string) => ({ console: `file=${fifo}` })],
    ["a port", "ports-last-words", (fifo: string) => ({ args: ["--port", `p,file=${fifo}`] })],
  ])(
    "%s",
    async (_, name, far) => {
      const fifo = path("fifo");
      expect(Bun.spawnSync(["mkfifo", fifo]).exitCode).toBe(0);
      const reader = open(fifo, Open.readOnly | Open.nonBlock);
      const running = await start(name, { cmdline: `bytes=${bytes}`, ...far(fifo) });
      await running.until("done"); // and nobody has read: the pipe holds 64 KiB
      const heard = await readUntil(reader, bytes);
      close(reader);

      expect(heard).toBe(poured(bytes));
      await ended(running, name);
    },
    guestTimeoutMs,
  );
});

describe("a terminal", () => {
  /** chv on a terminal of 80 by 25 with its console there. */
  async function onTerminal(name: string, words: string) {
    const { master, path: slavePath } = openPty();
    const stty = (...settings: string[]) =>
      Bun.spawnSync(["stty", "-F", slavePath, ...settings]).stdout.toString();
    stty("sane", "cols", "80", "rows", "25");
    const slave = open(slavePath, Open.readWrite | Open.noControllingTerminal);
    const serial = path("serial");
    const command = [...(await chvCommand()), "--kernel", await buildGuest(guest)];
    command.push("--memory", "64M", "--cmdline", `test=${name} ${words}`);
    const sane = stty("-a");
    // what --serial null --console tty is the default for, with words for the test
    command.push("--serial", `file=${serial}`);
    const child = Bun.spawn(command, { stdin: slave, stdout: slave, stderr: "pipe" });
    return {
      ...{ child, master, stty, sane, serial },
      close() {
        close(slave);
        close(master);
      },
    };
  }

  test(
    "is the console's if nothing else is said: raw while the guest runs, Ctrl-A x quits",
    async () => {
      const {
        child,
        master,
        stty,
        sane,
        close: end,
      } = await onTerminal("console-echo", "bytes=99");
      await readUntil(master, 7); // "ready", and a line feed that begins a line
      expect(stty("-a")).toContain("-icanon");
      await Bun.write(Bun.file(master), "hello");
      expect(await readUntil(master, 5)).toBe("hello");
      await Bun.write(Bun.file(master), "\x01x");

      expect(await child.exited).toBe(0);
      expect(stty("-a")).toBe(sane);
      expect(await child.stderr.text()).toBe("");
      end();
    },
    guestTimeoutMs,
  );

  test(
    "tells its size, and another when its window changes",
    async () => {
      const words = "columns=80 rows=25 then=132";
      const { child, master, stty, serial, close: end } = await onTerminal("console-size", words);
      await readUntil(master, 8); // "resize", and a line feed that begins a line
      stty("cols", "132");
      child.kill("SIGWINCH");

      expect(await child.exited).toBe(0);
      expect(verdicts(readFileSync(serial, "utf8"))).toEqual(["ok console-size", "done"]);
      end();
    },
    guestTimeoutMs,
  );
});

/** Reads a terminal's or pty's descriptor until so many bytes have come. */
async function readUntil(fd: number, bytes: number): Promise<string> {
  const block = new Block(4096);
  let text = "";
  await until(
    () => {
      const count = readSome(fd, block.address, Math.min(4096, bytes - text.length));
      if (count > 0) text += Buffer.from(block.bytes.subarray(0, count)).toString("latin1");
      return text.length >= bytes;
    },
    () => `${bytes} bytes, only ${JSON.stringify(text)}`,
  );
  return text;
}
