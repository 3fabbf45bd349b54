/** The SDK with small guests: test/guests/virtio-console/session.c speaks as the runner does, talk.c on a console. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BinaryError,
  type BootOptions,
  boot,
  CommandError,
  ExpectError,
  MachineError,
  RefusedError,
  type Vm,
} from "../../src/sdk/index.ts";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";
import { Follower } from "./process.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-sdk-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const temporary = join(folder, "tmp");
const image = join(folder, "image");
const limit = guestTimeoutMs;
let kernel = "";
let chv: readonly string[] = [];

beforeAll(async () => {
  kernel = await buildGuest("virtio-console");
  chv = await chvCommand();
  mkdirSync(temporary);
  writeFileSync(image, "");
  truncateSync(image, 2 ** 20);
}, limit);

const optionsOf = (words = "", more: Partial<BootOptions> = {}): BootOptions => ({
  ...{ image, kernel, chv, memory: "64M", cpus: 1, tmpdir: temporary },
  cmdline: `console=ttyS0 test=run-session nth=1 ${words}`,
  ...more,
});

const session = (words = "", more: Partial<BootOptions> = {}) => boot(optionsOf(words, more));

/** What a promise rejects with. */
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    (value) => new Error(`not rejected: ${JSON.stringify(value)}`),
    (error) => error,
  );

/** A process that has ended may still be in the table, for whoever adopted it to take note. */
function isThere(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

async function untilGone(pid: number): Promise<void> {
  const until = Date.now() + limit / 2;
  while (isThere(pid)) {
    if (Date.now() > until) throw new Error(`${pid} is still there`);
    await Bun.sleep(2);
  }
}

describe("a command", () => {
  test(
    "gives its outputs and its status, and the next one runs in the same machine",
    async () => {
      await using vm = await session();
      const plain = { stderr: "", status: 0, signal: null };

      expect(await vm.run("uname -r")).toEqual({ ...plain, stdout: "6.12.0-micro\n" });
      expect(await vm.run("both")).toEqual({
        ...{ stdout: "out\n", stderr: "err\n", status: 3, signal: null },
      });
      expect(await vm.run("pour 300000").then(({ stdout }) => stdout.length)).toBe(300_000);
      expect(await vm.run("uname -r")).toEqual({ ...plain, stdout: "6.12.0-micro\n" });
    },
    limit,
  );

  test(
    "is asked for as it was written, with what the machine's options say of it",
    async () => {
      await using vm = await session("", { env: { A: "1", B: "2" }, user: "me" });
      const job = async (...words: Parameters<Vm["run"]>) =>
        JSON.parse((await vm.run(...words)).stdout);

      expect(await job(["job", "a b", "ü'\""], { env: { B: "3" }, cwd: "/w" })).toEqual({
        argv: ["job", "a b", "ü'\""],
        ...{ env: { A: "1", B: "3" }, workdir: "/w", user: "me", sync: false, more: true },
      });
      expect(await job("job | cut -c1", { user: "root" })).toEqual({
        argv: ["/bin/sh", "-c", "job | cut -c1"],
        ...{ env: { A: "1", B: "2" }, user: "root", sync: false, more: true },
      });
    },
    limit,
  );

  test(
    "reads what it is given to its end: text, bytes, pieces",
    async () => {
      await using vm = await session();
      const bytes = new Uint8Array(700_000).map((_, i) => i * 31 + (i >> 8));
      async function* pieces() {
        yield "ü";
        yield bytes.subarray(0, 3);
      }

      expect((await vm.run("cat")).stdout).toBe("");
      expect((await vm.run("cat", { stdin: "ü\n" })).stdout).toBe("ü\n");
      const back = await vm.run("cat", { stdin: bytes, bytes: true });
      expect(Buffer.compare(back.stdout, bytes)).toBe(0);
      const { stdout } = await vm.run("cat", { stdin: pieces(), bytes: true });
      expect([...stdout]).toEqual([0xc3, 0xbc, ...bytes.subarray(0, 3)]);
    },
    limit,
  );

  test(
    "does not get what the one before it left unread",
    async () => {
      await using vm = await session();

      expect((await vm.run("deaf", { stdin: new Uint8Array(2_000_000) })).status).toBe(4);
      expect((await vm.run("cat", { stdin: "mine" })).stdout).toBe("mine");
    },
    limit,
  );

  test(
    "asked for while another runs waits for its turn",
    async () => {
      await using vm = await session();
      const runs = ["uname", "both", "uname"].map((command) => vm.run(command));

      expect((await Promise.all(runs)).map(({ status }) => status)).toEqual([0, 3, 0]);
    },
    limit,
  );

  test(
    "whose output goes to a function is read at that function's pace",
    async () => {
      await using vm = await session();
      let [count, atOnce, most] = [0, 0, 0];
      const { stdout } = await vm.run("pour 2000000", {
        async onStdout(bytes) {
          most = Math.max(most, ++atOnce);
          await Bun.sleep(0);
          count += bytes.length;
          atOnce--;
        },
      });

      expect({ stdout, count, most }).toEqual({ stdout: "", count: 2_000_000, most: 1 });
      const throws = () => {
        throw new Error("no more");
      };
      expect(await failure(vm.run("both", { onStdout: throws }))).toEqual(new Error("no more"));
      expect((await vm.run("uname")).stdout).toBe("6.12.0-micro\n");
    },
    limit,
  );

  test(
    "that takes too long or is aborted is ended, and the next one runs",
    async () => {
      await using vm = await session();
      const late = (await failure(vm.run("wait", { timeout: 1500 }))) as CommandError;
      expect(late).toBeInstanceOf(CommandError);
      expect([late.reason, late.message]).toEqual(["timeout", "wait: has not ended in 1500 ms"]);

      const abort = new AbortController();
      const why = new Error("enough");
      const heard = (bytes: Uint8Array) => bytes.length > 0 && abort.abort(why);
      expect(await failure(vm.run("wait", { signal: abort.signal, onStdout: heard }))).toBe(why);
      expect(await failure(vm.run("uname", { signal: AbortSignal.abort(why) }))).toBe(why);
      expect((await vm.run("uname")).status).toBe(0);
    },
    limit,
  );

  test(
    "with check that fails is an error with what it said",
    async () => {
      await using vm = await session();
      const error = (await failure(vm.run("both", { check: true }))) as CommandError;

      expect(error.message).toBe("both: exit status 3\nerr");
      expect(error.result).toEqual({ stdout: "out\n", stderr: "err\n", status: 3, signal: null });
    },
    limit,
  );
});

describe("a guest that goes away under a command", () => {
  test(
    "by a reset takes the command along; the next one runs in its new life",
    async () => {
      await using vm = await session();
      const error = (await failure(vm.run("reset"))) as CommandError;

      expect(error.message).toBe("reset: the guest was reset (i8042)");
      expect([error.reason, error.result.stdout]).toEqual(["guest-gone", "bye\n"]);
      expect((await vm.run("uname")).stdout).toBe("6.12.0-micro\n");
    },
    limit,
  );

  test.each([
    ["off", "poweroff", 0, "the guest has powered itself off (poweroff, exit status 0)"],
    ["panic", "panic", 245, "panic: Attempted to kill init! (panic, exit status 245)"],
  ] as const)(
    "by %s ends everything with that reason",
    async (command, reason, status, message) => {
      await using vm = await session();
      const never = failure(vm.expect(/never/));
      const error = (await failure(vm.run(command))) as MachineError;

      expect(error).toBeInstanceOf(MachineError);
      expect([error.reason, error.status, error.message]).toEqual([reason, status, message]);
      expect(await never).toBe(error);
      expect(await failure(vm.run("uname"))).toBe(error);
      expect(await failure(vm.ctl.info())).toBe(error);
      expect(await vm.exited).toMatchObject({ reason, status });
    },
    limit,
  );

  test(
    "whose runner talks nonsense is told so",
    async () => {
      await using vm = await session();
      const { message } = await failure(vm.run("nonsense"));

      expect(message).toBe("nonsense: the runner in the guest says what no runner says");
    },
    limit,
  );
});

describe("a boot that fails says why", () => {
  test(
    "nothing to boot, a bad option, a bad seed",
    async () => {
      const reasons = async (more: Partial<BootOptions>) => {
        const error = (await failure(boot({ ...optionsOf(), ...more }))) as MachineError;
        return [error.reason, error.status, error.message] as const;
      };

      expect((await reasons({ kernel: undefined })).slice(0, 2)).toEqual(["configuration", 242]);
      expect(await reasons({ image: "/nowhere.img" })).toEqual([
        ...(["configuration", 242] as const),
        expect.stringContaining("IMAGE /nowhere.img: "),
      ]);
      expect((await reasons({ args: ["--nonsense"] })).slice(0, 2)).toEqual(["usage", 240]);
      const seed = { userData: { text: "#cloud-config\na: [1\n" } };
      expect(await reasons({ cloudInit: seed })).toEqual([
        ...(["configuration", 242] as const),
        expect.stringMatching(/line \d|:\d+:\d+/),
      ]);
      expect(readdirSync(temporary)).toEqual([]);
    },
    limit,
  );

  test(
    "no such program",
    async () => {
      const error = await failure(boot({ image, chv: "/nowhere/chv" }));

      expect(error).toBeInstanceOf(BinaryError);
      expect(error.message).toMatch(/^\/nowhere\/chv: .*ENOENT.*; name the chv executable$/);
    },
    limit,
  );

  test(
    "--control and a command, --control of nothing",
    async () => {
      const command = { args: ["--", "true"] };
      expect(await failure(session("", command))).toMatchObject({
        message:
          "--control: the commands come by it; leave -- COMMAND out (usage, exit status 240)",
      });
      const words = ["run", image, "--control=fd=90,stdin=91,stdout=92,stderr=93"];
      await using lone = new Follower([...chv, ...words], limit);
      expect(await lone.ended()).toMatchObject({
        ...{ exitCode: 240, stderr: "chv: --control fd=90: no such open descriptor\n" },
      });
    },
    limit,
  );

  test(
    "a panic and the time that is over reach whoever waits",
    async () => {
      await using panics = await session("first=panic");
      expect(await failure(panics.run("uname"))).toMatchObject({ reason: "panic", status: 245 });
      const waits = async () => {
        await using slow = await session("", { timeout: "1500ms" }); // or this takes too long
        await slow.expect(/never/);
      };
      expect(await failure(waits())).toMatchObject({ reason: "timeout", status: 244 });
    },
    limit,
  );

  test(
    "an expectation that is not met has the last lines",
    async () => {
      await using vm = await session("say=hello_you");
      await vm.expect("hello");
      const error = (await failure(vm.expect(/never/, { timeout: 50 }))) as ExpectError;

      expect(error).toBeInstanceOf(ExpectError);
      expect(error.message).toBe(
        "/never/ did not come in 50 ms; the consoles' last lines:\n  hello you",
      );
    },
    limit,
  );
});

test(
  "a console is read and typed into, through a reset, to the end",
  async () => {
    const talk = await buildGuest("talk");
    await using vm = await boot({ ...optionsOf(), kernel: talk });
    const [match] = await vm.expect(/micro (\w+): /);
    expect(match).toBe("micro login: ");
    await vm.send("hi\n");
    await vm.expect("told hi");
    await vm.send("again\n");
    await vm.expect(/^booted/);
    await vm.expect("login:", { console: "serial" });
    await vm.send("bye\n");

    expect(await vm.exited).toEqual({ reason: "poweroff", status: 0, message: null });
    const lines = vm.console.text.split("\n");
    expect(lines).toContain("told again");
    expect(lines.filter((line) => line === "booted")).toHaveLength(2);
    const told: string[] = [];
    for await (const event of vm.events) told.push(`${event.source}/${event.event}`);
    expect(told.filter((name) => name.startsWith("vm/"))).toEqual([
      ...["vm/booting", "vm/first-run", "vm/reset", "vm/first-run", "vm/poweroff"],
    ]);
  },
  limit,
);

test(
  "the API's operations are there, and what it refuses is an error",
  async () => {
    await using vm = await session();
    await vm.run("uname");

    expect((await vm.ctl.ping()).pid).toBe(vm.pid);
    expect((await vm.ctl.info()).config).toMatchObject({ memory: { size: 64 * 2 ** 20 } });
    await vm.ctl.pause();
    expect((await vm.ctl.info()).state).toBe("Paused");
    await vm.ctl.resume();
    expect((await vm.ctl.counters()).__ports!.write_bytes).toBeGreaterThan(13);
    expect(await vm.ctl.metrics()).toContain("# TYPE");
    const refused = (await failure(vm.ctl.resume())) as RefusedError;
    expect(refused).toBeInstanceOf(RefusedError);
    expect(refused.status).toBe(409);
    expect(await failure(vm.ctl.wait("userspace", { timeout: 1 }))).toMatchObject({ status: 408 });
    expect((await vm.run("uname")).status).toBe(0);
  },
  limit,
);

describe("nothing stays", () => {
  test(
    "after a throw in the block",
    async () => {
      let pid = 0;
      const block = async () => {
        await using vm = await session();
        pid = vm.pid;
        expect(isThere(pid)).toBe(true);
        void vm.run("wait").catch(() => {});
        throw new Error("mine");
      };

      expect((await failure(block())).message).toBe("mine");
      expect([isThere(pid), readdirSync(temporary)]).toEqual([false, []]);
    },
    limit,
  );

  test.each(["SIGKILL", "SIGINT", "SIGTERM"] as const)(
    "after %s to the script",
    async (signal) => {
      const script = join(folder, "script.ts");
      const sdk = join(import.meta.dir, "../../src/sdk/index.ts");
      writeFileSync(
        script,
        `import { boot } from ${JSON.stringify(sdk)};
         const vm = await boot(${JSON.stringify(optionsOf())});
         void vm.run("wait", { onStdout: () => console.log("pid", vm.pid) });`,
      );
      const running = new Follower([process.execPath, script], limit);
      await running.until("\n");
      const pid = Number(/pid (\d+)/.exec(running.stdout)![1]);
      expect(isThere(pid)).toBe(true);
      running.kill(signal);
      await running.ended();
      await untilGone(pid);

      expect(readdirSync(temporary)).toEqual([]);
    },
    limit,
  );

  test(
    "but what a terminal sends is for the script alone, which may go on",
    async () => {
      const script = join(folder, "heeds.ts");
      const sdk = join(import.meta.dir, "../../src/sdk/index.ts");
      writeFileSync(
        script,
        `import { boot } from ${JSON.stringify(sdk)};
         await using vm = await boot(${JSON.stringify(optionsOf())});
         await vm.run("uname");
         const heard = new Promise((resolve) => process.once("SIGINT", resolve));
         console.log("ready");
         await heard;
         console.log((await vm.run("both")).stdout);`,
      );
      // a process group of its own, as a shell gives to what it starts on a terminal
      const running = new Follower(["setsid", process.execPath, script], limit);
      await running.until("ready");
      process.kill(-running.pid, "SIGINT");

      expect(await running.ended()).toEqual({
        ...{ exitCode: 0, stdout: "ready\nout\n\n", stderr: "" },
      });
    },
    limit,
  );

  test(
    "but the disk that is to be kept, which the guest has left in order",
    async () => {
      const keep = join(folder, "kept.qcow2");
      const vm = await session("", { keep });
      await vm.run("uname");
      const exit = await vm.stop();

      expect(exit).toEqual({ reason: "poweroff", status: 0, message: null });
      expect(readFileSync(keep).toString("latin1", 0, 4)).toBe("QFI\xfb");
      expect(vm.console.text).toContain("ok run-session");
    },
    limit,
  );
});
