/** `chv ctl` beside a chv that it drives: consoles on a terminal and in a pipe, and the exit codes. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { version } from "../../package.json";
import { close, Open, open } from "../../src/ffi/file.ts";
import { openPty } from "../../src/ffi/terminal.ts";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";

const tests = (name: string, run: () => Promise<void>) => test(name, run, guestTimeoutMs);

/** chv with a guest that repeats each line that it is told. */
async function talking(): Promise<ApiProcess> {
  const chv = await ApiProcess.start("--on-poweroff", "keep");
  const payload = { kernel: await buildGuest("talk") };
  const ends = { serial: { mode: "Null" }, console: { mode: "Off" } };
  await chv.put("vm.create", { payload, memory: { size: 64 * 2 ** 20 }, ...ends });
  await chv.put("vm.boot");
  await chv.put("vm.wait", { for: "login" });
  return chv;
}

async function ctl(
  words: string[],
  stdin = "",
): Promise<{ code: number; out: string; err: string }> {
  const child = Bun.spawn([...(await chvCommand()), ...words], {
    ...{ stdin: new Blob([stdin]), stdout: "pipe", stderr: "pipe" },
  });
  const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { code: await child.exited, out, err };
}

tests(
  "a chv that is killed under its clients: they end with the code of a socket without one",
  async () => {
    await using chv = await talking();
    const without = await idleConnections(chv.pid);
    const clients = [["events"], ["wait", "exit"], ["console"]].map((words) =>
      ctl(["ctl", "--api-socket", chv.socket, ...words]),
    );
    while (connections(chv.pid) < without + clients.length) await Bun.sleep(5);
    chv.kill("SIGKILL");

    for (const { code, err } of await Promise.all(clients)) {
      expect([code, err]).toEqual([
        242,
        expect.stringContaining(`chv: --api-socket ${chv.socket}: `),
      ]);
      expect(err.trim().split("\n")).toHaveLength(1);
    }
  },
);

/** Sockets that a process has open, the one that listens among them. */
const connections = (pid: number): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;

/** The same, when no client is there: those that have left are gone once they are not fewer in a while. */
async function idleConnections(pid: number): Promise<number> {
  let least = connections(pid);
  for (let looks = 0; looks < 20; looks++) {
    await Bun.sleep(5);
    if (connections(pid) < least) looks = 0;
    least = Math.min(least, connections(pid));
  }
  return least;
}

describe("a console", () => {
  const settings = (path: string): string =>
    Bun.spawnSync(["stty", "-a", "-F", path]).stdout.toString();

  /** The console on a terminal of its own; `said` has what it shows. */
  async function onTerminal(chv: ApiProcess) {
    const { master, path } = openPty();
    Bun.spawnSync(["stty", "sane", "-F", path]);
    const sane = settings(path);
    const slave = open(path, Open.readWrite | Open.noControllingTerminal);
    const command = [...(await chvCommand()), "ctl", "--api-socket", chv.socket, "console"];
    const child = Bun.spawn(command, { stdin: slave, stdout: slave, stderr: "pipe" });
    let said = "";
    const reading = (async () => {
      for await (const piece of Bun.file(master).stream()) said += new TextDecoder().decode(piece);
    })().catch(() => {}); // the terminal is closed
    return {
      ...{ child, path, sane },
      type: (text: string) => Bun.write(Bun.file(master), text),
      async until(text: string) {
        while (!said.includes(text) && child.exitCode === null) await Bun.sleep(5);
        expect(said).toContain(text);
      },
      async close() {
        close(slave);
        close(master);
        await reading;
      },
    };
  }

  tests("on a terminal: typed into, left by the escape key, and taken up again", async () => {
    await using chv = await talking();
    for (const word of ["first", "second"]) {
      const terminal = await onTerminal(chv);
      await terminal.until("micro login: ");
      expect(settings(terminal.path)).toContain("-icanon");
      await terminal.type(`${word}\r`);
      await terminal.until(`told ${word}`);
      await terminal.type("\x01x");
      expect(await terminal.child.exited).toBe(0);
      expect(settings(terminal.path)).toBe(terminal.sane);
      expect(await terminal.child.stderr.text()).toBe("chv: attached; Ctrl-A x detaches\r\n");
      await terminal.close();
    }
    expect((await chv.info()).state).toBe("Running");
  });

  tests("the terminal is as it was when the client is ended, or the machine", async () => {
    await using chv = await talking();
    const first = await onTerminal(chv);
    await first.until("micro login: ");
    first.child.kill("SIGTERM");
    expect(await first.child.exited).toBe(143);
    expect(settings(first.path)).toBe(first.sane);
    await first.close();

    const second = await onTerminal(chv);
    await second.until("micro login: ");
    await second.type("bye\r");
    expect(await second.child.exited).toBe(0);
    await second.until("told bye");
    expect(settings(second.path)).toBe(second.sane);
    await second.close();
  });

  tests("in a pipe: what comes is typed, and it ends with the machine", async () => {
    await using chv = await talking();
    const socket = ["--api-socket", chv.socket];
    const { code, out, err } = await ctl(["ctl", ...socket, "console", "serial"], "one\nbye\n");
    expect([code, err]).toEqual([0, ""]);
    expect(out.replaceAll("\r", "")).toContain("told one\ntold bye\n");
    const log = await ctl(["ctl", ...socket, "console", "--follow=off"]);
    expect(log.out).toBe(out);
  });
});

tests(
  "the socket may be named before ctl or after it; the exit code says what happened",
  async () => {
    await using chv = await ApiProcess.start();
    const socket = ["--api-socket", chv.socket];
    for (const words of [
      [...socket, "ctl", "ping"],
      ["ctl", ...socket, "ping"],
      ["ctl", "ping", ...socket],
    ]) {
      const { code, out } = await ctl(words);
      expect([code, JSON.parse(out)]).toMatchObject([0, { version, pid: chv.pid }]);
    }
    const config = JSON.stringify({ payload: { kernel: "/none" } });
    expect(await ctl(["ctl", ...socket, "create", "-"], config)).toEqual({
      code: 0,
      out: "",
      err: "",
    });
    expect(JSON.parse((await ctl(["ctl", ...socket, "info"])).out).state).toBe("Created");
    const refused = await ctl(["ctl", ...socket, "pause"]);
    expect([refused.code, refused.out]).toEqual([1, ""]);
    expect(refused.err).toStartWith("chv: vm.pause failed: The VM is Created");
    expect((await ctl(["ctl", ...socket, "wait", "exit", "--timeout", "0"])).code).toBe(244);
    expect((await ctl(["ctl", ...socket, "none"])).code).toBe(240);
    expect((await ctl(["ctl", ...socket, "console", "one", "two"])).code).toBe(240);
    expect((await ctl(["ctl", "ping"])).err).toBe(
      "chv: ctl: no socket; give it with --api-socket PATH\n",
    );
    const nowhere = join(chv.folder, "nowhere");
    expect((await ctl(["ctl", "--api-socket", nowhere, "ping"])).code).toBe(242);
    const events = (await ctl(["ctl", ...socket, "events", "--follow=off"])).out;
    expect(
      events
        .split("\n")
        .slice(0, 3)
        .map((line) => JSON.parse(line).event),
    ).toEqual([...["starting", "api-ready", "created"]]);
    expect((await ctl(["ctl", ...socket, "shutdown-vmm"])).code).toBe(0);
    expect((await chv.ended()).exitCode).toBe(0);
  },
);

/** Whether all threads of that name sleep (proc_pid_stat(5): state S). */
function threadsAsleep(pid: number, name: string): boolean {
  const stats = readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    try {
      return [readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8")];
    } catch {
      return []; // it has ended
    }
  });
  const states = stats.flatMap((stat) =>
    stat.includes(`(${name}) `) ? [stat.split(") ")[1]![0]] : [],
  );
  expect(states.length).toBeGreaterThan(0);
  return states.every((state) => state === "S");
}

tests("standard input that ends at once does not keep the console's thread busy", async () => {
  const kernel = await buildGuest("talk"); // it polls; its own thread is as busy as can be
  const command = [...(await chvCommand()), "--kernel", kernel, "--memory", "64M"];
  for (const stdin of ["ignore", new Blob([])] as const) {
    const child = Bun.spawn([...command, "--serial", "tty", "--console", "off"], {
      ...{ stdin, stdout: "pipe", stderr: "inherit" },
    });
    const reader = child.stdout.getReader();
    let said = "";
    while (!said.includes("login: ")) {
      said += new TextDecoder().decode((await reader.read()).value);
    }
    // a thread that is busy is never asleep, however little of a processor it gets
    const looks = Array.from({ length: 100 });
    let asleep = 0;
    for (const _ of looks) {
      asleep += threadsAsleep(child.pid, "io0") ? 1 : 0;
      await Bun.sleep(4);
    }
    expect(asleep).toBeGreaterThan(looks.length / 2);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  }
});
