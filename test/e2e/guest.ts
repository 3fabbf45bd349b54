/**
 * Runs chv with a Linux guest, on the machine whose /dev/kvm runs Linux (`test/lab/run.ts`), and says
 * what came of it. Every run has its own folder in .cache/e2e, which is gone when the run has ended.
 */

import { test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { basename } from "node:path";
import { cache, initramfsFile, kernelFile, pathInLab, root } from "../lab/paths.ts";
import { direct, type LabRunResult, labRun } from "../lab/run.ts";
import { labTurn } from "../lab/turn.ts";
import { guestScript } from "./initramfs/build.ts";

export interface GuestOptions {
  /** A path; the 6.12 cloud kernel's vmlinux if not given. */
  readonly kernel?: string;
  /** A disk image that names kernel, initramfs, command line and console itself: `words` are all that is added. */
  readonly image?: string;
  readonly initramfs?: string;
  /** Further words of the kernel's command line. */
  readonly words?: string;
  /** The kernel's whole command line, for a guest with an init of its own. */
  readonly cmdline?: string;
  /** A script that runs in the guest, and what then; see `initramfs/init`. */
  readonly run?: string;
  readonly end?: "poweroff" | "reboot" | "panic" | "halt" | "shell";
  /** The value of --serial; "tty" if not given, and there is no `console`. */
  readonly serial?: string;
  /** The value of --console, which is the guest's console then (hvc0); off if not given. */
  readonly console?: string;
  /** Further arguments of chv. */
  readonly more?: readonly string[];
  /** Bash that runs beside chv, with the functions of `driver.sh`. */
  readonly drive?: string;
  /** Bash whose output is chv's standard input; it has no $chv. */
  readonly input?: string;
  /** How many times the guest boots, for the time that the run may take; once if not given. */
  readonly boots?: number;
  /** Bash that runs before chv, and when it has ended. */
  readonly before?: string;
  readonly after?: string;
}

/** A line that --event-monitor wrote. */
export interface GuestEvent {
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  readonly source: string;
  readonly event: string;
  readonly properties: { readonly code?: number } | null;
}

export interface GuestRun {
  /** chv's exit status. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** "vm/reset", "guest/userspace", … in order. */
  readonly events: readonly string[];
  /** What the guest wrote to the debug port. */
  readonly codes: readonly number[];
  /** The files that the run left in its folder, by name. */
  readonly files: Readonly<Record<string, string>>;
}

/** Emulated processors are slow with string instructions and mitigations (the lab's, not a real one's). */
export const labWords = direct
  ? ""
  : "clearcpuid=rep_good init_on_alloc=0 mitigations=off tsc=reliable";
/** For each boot of a run: ten times what a quiet machine needs, since a busy one was five times slower. */
const boundS = 600;
/** What comes before chv starts: the copy of the program, and `before`. Else the status is `notPrepared`. */
const prepareS = 90;
const notPrepared = 75;
/** Until the script of a run that has been too long has ended. */
const graceMs = 60_000;

export const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;
export const inside = (path: string) => (direct ? path : pathInLab(path));

export const built = `${root}/dist/chv`;
/** The program as scripts start it: in the lab, a copy of what was built last. */
export function program(): string {
  if (direct) return built;
  const { ino, mtimeMs, size } = statSync(built);
  return `/tmp/chv-e2e-${ino}-${mtimeMs}-${size}`;
}

/** chv's arguments for a guest. */
function guestArguments(options: GuestOptions): string[] {
  if (options.image !== undefined) return imageArguments(options.image, options);
  const script = guestScript(options.run ?? ":", options.end ?? "poweroff");
  const more = options.more ?? [];
  const memory = more.includes("--memory") ? [] : ["--memory", "256M"];
  const device = options.console === undefined ? "ttyS0" : "hvc0";
  const first = `console=${device} quiet panic=-1`;
  const words =
    options.cmdline === undefined
      ? [first, labWords, options.words, script].filter(Boolean)
      : [options.cmdline, labWords];
  const second = more.includes("--console") ? [] : ["--console", options.console ?? "off"];
  const serial = options.serial ?? (options.console === undefined ? "tty" : "null");
  return [
    ...["--kernel", inside(options.kernel ?? kernelFile("6.12-cloud", "vmlinux"))],
    ...["--initramfs", inside(options.initramfs ?? initramfsFile), "--cmdline", words.join(" ")],
    ...["--serial", serial, ...second],
    ...["--event-monitor", "path=events", ...memory, ...more],
  ];
}

function imageArguments(image: string, { words, more = [] }: GuestOptions): string[] {
  const added = [labWords, words].filter(Boolean).join(" ");
  return [
    ...["--disk", `path=${inside(image)}`, "--memory", "256M"],
    ...(added === "" ? [] : ["--cmdline-append", added]),
    ...["--event-monitor", "path=events", ...more],
  ];
}

/** The first lines of a script that runs `$program` in `$work`; it has to set a limit of its own after them. */
export const preparation = (folder: string) => `
    . ${quote(`${root}/test/e2e/driver.sh`)}
    limit ${prepareS} ${notPrepared}
    program=${quote(program())} work=/tmp/chv-${basename(folder)}
    [ -x "$program" ] || copy_program ${quote(built)} "$program"
    $quick mkdir "$work" && cd "$work" || exit 1`;

/**
 * Starts chv as `$chv`, lets `drive` work and waits for the end: prints nothing, leaves files. They are in memory
 * until then: over virtiofs each write of chv's would be a request to the host.
 */
function hostScript(folder: string, options: GuestOptions): string {
  const limitS = boundS * (options.boots ?? 1);
  const command = guestArguments(options).map(quote).join(" ");
  const input = options.input ? `{ ${options.input}\n} |` : "";
  return `
    ${preparation(folder)}
    : >stdout >stderr >events
    ended() {
      kill "$limit" 2>/dev/null
      [ -z "\${chv:-}" ] || kill -KILL "$chv" 2>/dev/null
      ${options.after ?? ""}
      keep_files ${quote(folder)}
      $quick rm -rf "$work"
    }
    trap ended EXIT
    ${options.before ?? ""}
    limit ${limitS}
    ${input} "$program" ${command} ${input ? "" : "</dev/null"} >stdout 2>stderr &
    chv=$!
    drive() {
      ${options.drive ?? ":"}
    }
    drive || failed=1
    [ -z "$failed" ] || kill -TERM "$chv"
    wait "$chv"
    echo $? >status
    chv=
    printf '%s\\n' * >left
    exit "\${failed:-0}"`;
}

/**
 * Guests at once. One in the lab, whose emulated hardware is not up to more: QEMU 7.2 does not tell guests apart by
 * their ASIDs, so two that take turns on a processor write to each other's pages, and to the lab's.
 */
let free = direct ? 4 : 1;
const waiting: (() => void)[] = [];

async function turn<T>(run: () => Promise<T>): Promise<T> {
  if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
  else free--;
  try {
    return await run();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

let runs = 0;

/** Runs bash in a folder of its own, when there is a processor for it; the files that it left. */
export function runInFolder(
  name: string,
  script: (folder: string) => string,
  timeoutMs: number,
): Promise<{ code: number; output: string; files: Record<string, string> }> {
  return turn(async () => {
    const folder = `${cache}/e2e/${name}-${process.pid}-${runs++}`;
    mkdirSync(folder, { recursive: true });
    try {
      const release = direct ? () => {} : await labTurn();
      const run = () => labRun(script(folder), { timeoutMs });
      const again = (result: LabRunResult) => {
        if (result.code !== notPrepared) return result;
        console.error(`${name}: chv could not be started, once more: ${result.output.trim()}`);
        return run();
      };
      const { code, output } = await run().then(again).finally(release);
      const files: Record<string, string> = {};
      for (const file of readdirSync(folder)) {
        const path = `${folder}/${file}`;
        if (statSync(path).isFile()) files[file] = readFileSync(path, "utf8");
      }
      return { code, output, files };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

/** One run of chv, to its end. Throws, with all there is to see, when `drive` failed or the time ran out. */
export async function runGuest(name: string, options: GuestOptions = {}): Promise<GuestRun> {
  const { code, output, files } = await runInFolder(
    name,
    (folder) => hostScript(folder, options),
    (prepareS + boundS * (options.boots ?? 1)) * 1000 + graceMs,
  );
  const { stdout = "", stderr = "", status = "", events = "" } = files;
  if (code !== 0 || status === "") {
    const tail = (text: string) => text.slice(-2000);
    throw new Error(
      `${name}: the run failed (${code}): ${output}\nevents:\n${tail(events)}\nstderr:\n${tail(stderr)}\nstdout:\n${tail(stdout)}`,
    );
  }
  const told: GuestEvent[] = events
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return {
    code: Number(status),
    stdout: stdout.replaceAll("\r\n", "\n"),
    stderr,
    events: told.map(({ source, event }) => `${source}/${event}`),
    codes: told.flatMap(({ source, properties }) =>
      source === "guest" && properties?.code !== undefined ? [properties.code] : [],
    ),
    files,
  };
}

/** The same guest for several tests: runs when the first one asks. */
export function shared(name: string, options: () => GuestOptions): () => Promise<GuestRun> {
  let run: Promise<GuestRun> | undefined;
  return () => {
    run ??= runGuest(name, options());
    return run;
  };
}

/** Tests of guests wait for each other's runs: those alone are bounded. */
const guestTimeoutMs = 3_600_000;

/** A test that waits for guests, beside the others of its file. */
export function guestTest(name: string, run: () => Promise<void>): void {
  test.concurrent(name, run, guestTimeoutMs);
}
