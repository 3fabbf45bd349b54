/**
 * Runs micro-guests on chv. The guest speaks on its serial port:
 * `ok NAME` or `not ok NAME: WHAT got GOT expected EXPECTED` for each test, `done` at its end.
 */

import { expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuest } from "./build.ts";
import { type Ended, Follower } from "./process.ts";

const root = join(import.meta.dir, "../..");

/** A line of chv's `--event-monitor` file. */
export interface MonitorEvent {
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  readonly source: string;
  readonly event: string;
  readonly properties: Record<string, unknown> | null;
}

/** What virtio devices are plugged into. */
export const transports = ["pci", "mmio"] as const;

export interface GuestOptions {
  /** A guest of this folder, see buildGuest. */
  readonly guest: string;
  /** The transport of virtio devices, for chv and for the guest. */
  readonly transport?: (typeof transports)[number];
  /** The guest's command line. */
  readonly cmdline?: string;
  /** Processors, or a whole value for chv's `--cpus`. */
  readonly cpus?: number | string;
  /** As chv's `--memory size=`. */
  readonly memory?: string;
  /** chv's `--serial` and `--console`; the serial port is the process's stdin and stdout if not given. */
  readonly serial?: string;
  readonly console?: string;
  /** More arguments for chv, after the usual ones. */
  readonly args?: readonly string[];
  /** The words of a command that runs chv. */
  readonly under?: readonly string[];
  /** Typed at once on the guest's serial port, which then ends. */
  readonly stdin?: string;
  readonly timeoutMs?: number;
}

export interface GuestRun extends Ended {
  readonly events: MonitorEvent[];
}

let chv: Promise<readonly string[]> | undefined;

/**
 * The command that runs chv: `$CHV`, or dist/chv when it is newer than every source file, or the
 * sources.
 */
export function chvCommand(): Promise<readonly string[]> {
  chv ??= findChv();
  return chv;
}

async function findChv(): Promise<readonly string[]> {
  if (process.env.CHV) return [process.env.CHV];
  const binary = join(root, "dist/chv");
  const built = await modified(binary);
  const sources = await readdir(join(root, "src"), { recursive: true });
  const changes = await Promise.all(
    [...sources.map((file) => join("src", file)), "build.ts", "package.json"].map((file) =>
      modified(join(root, file)),
    ),
  );
  return built > Math.max(...changes) ? [binary] : [process.execPath, join(root, "src/main.ts")];
}

async function modified(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
}

/** A guest on chv that is still running. */
export class Guest extends Follower {
  constructor(
    command: readonly string[],
    timeoutMs: number,
    readonly folder: string,
  ) {
    super(command, timeoutMs);
  }

  /** The events so far. A last line that is still being written is left out. */
  async events(): Promise<MonitorEvent[]> {
    const text = await Bun.file(join(this.folder, "events")).text();
    const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
    return lines.filter((line) => line !== "").map((line) => JSON.parse(line));
  }

  /** Waits for the end and removes what the run left behind. */
  async finish(): Promise<GuestRun> {
    const ended = await this.ended();
    const events = await this.events().catch(() => []);
    await rm(this.folder, { recursive: true, force: true });
    return { ...ended, events };
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Starts a guest on chv; its serial port is the process's stdin and stdout. */
export async function startGuest(options: GuestOptions): Promise<Guest> {
  const {
    guest,
    transport = "pci",
    cmdline = "",
    cpus = 1,
    memory = "64M",
    serial = "tty",
    console: far = "off",
    args = [],
    under = [],
    timeoutMs = guestTimeoutMs,
  } = options;
  const kernel = await buildGuest(guest);
  const folder = await mkdtemp(join(tmpdir(), "chv-guest-"));
  const words = transport === "mmio" ? `transport=mmio ${cmdline}` : cmdline;
  const command = [...under, ...(await chvCommand()), "--kernel", kernel, "--cmdline", words];
  command.push("--serial", serial, "--console", far, "--memory", `size=${memory}`);
  command.push(
    "--cpus",
    typeof cpus === "number" ? `boot=${cpus}` : cpus,
    "--event-monitor",
    `path=${join(folder, "events")}`,
  );
  if (transport === "mmio") command.push("--platform", "virtio=mmio");
  const running = new Guest([...command, ...args], timeoutMs, folder);
  if (options.stdin !== undefined) {
    await running.input(options.stdin);
    await running.endInput();
  }
  return running;
}

/** Runs a guest on chv to its end. */
export async function runGuest(options: GuestOptions): Promise<GuestRun> {
  return (await startGuest(options)).finish();
}

/**
 * Guests answer in well under a second; a busy host, and the waits inside a failing guest, get
 * this.
 */
export const guestTimeoutMs = 300_000;

/** A guest with tests; the suite if none is named. */
export type SuiteOptions = Partial<GuestOptions>;

/**
 * Declares a `bun test` for each named test of a guest with tests. One boot of chv runs them all,
 * in this order; each test looks for its own verdict.
 */
export function guestTests(names: readonly string[], options: SuiteOptions = {}) {
  let shared: Promise<GuestRun> | undefined;
  const once = () => {
    shared ??= runSuite(names.join(","), options);
    return shared;
  };
  for (const name of names) {
    test(
      name,
      async () => {
        const { stdout, stderr, exitCode } = await once();
        const own = verdicts(stdout).filter(
          (line) => line.match(/^(?:not )?ok ([^:]*)/)?.[1] === name,
        );
        if (own.length === 0)
          throw new Error(`No verdict (exit ${exitCode}):\n${stdout}\n${stderr}`);
        expect(own).toEqual([`ok ${name}`]);
      },
      guestTimeoutMs,
    );
  }
  test(
    `after ${names.at(-1)}, the guest powers off and chv ends without a word`,
    async () => {
      const { stdout, stderr, exitCode } = await once();
      expect({ last: verdicts(stdout).at(-1), stderr, exitCode }).toEqual({
        last: "done",
        stderr: "",
        exitCode: 0,
      });
    },
    guestTimeoutMs,
  );
}

/** Runs tests of a guest with tests, `names` separated by commas, in one boot of chv. */
export function runSuite(names: string, options: SuiteOptions = {}): Promise<GuestRun> {
  const cmdline = `test=${names} ${options.cmdline ?? ""}`.trim();
  return runGuest({ guest: "suite", ...options, cmdline });
}

/**
 * Expects that the suite guest found its one test right, and that chv ended as the guest asked,
 * without a word.
 */
export function expectOk(name: string, { stdout, stderr, exitCode }: Ended): void {
  expect({ verdicts: verdicts(stdout), stderr, exitCode }).toEqual({
    verdicts: [`ok ${name}`, "done"],
    stderr: "",
    exitCode: 0,
  });
}

/** The lines that a test program's verdict consists of. */
export function verdicts(stdout: string): string[] {
  return stdout.split(/\r?\n/).filter((line) => /^(ok |not ok |done$)/.test(line));
}

/** What the guest noted: `note NAME VALUE` lines. */
export function notes(stdout: string): Map<string, string> {
  return new Map(
    [...stdout.matchAll(/^note (\S+) (.*?)\r?$/gm)].map((match) => [match[1]!, match[2]!]),
  );
}
