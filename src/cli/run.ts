/** `chv run IMAGE [-- COMMAND…]`: boots an image as it is, runs a command in it, and hands its status on. */
import { LogLevel } from "../bus/events.ts";
import { UsageError } from "../exit-codes.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { writeAll } from "../ffi/file.ts";
import { isTerminal } from "../ffi/terminal.ts";
import { log, printable } from "../log.ts";
import type { VmmOptions } from "../machine/config/vmm.ts";
import type * as Describe from "../machine/disk-boot/describe.ts";
import { EventMonitor } from "../machine/event-monitor.ts";
import { EventLog } from "../machine/vmm/events.ts";
import { serve } from "./boot.ts";
import type { CommandInput } from "./command.ts";
import { asGiven } from "./run/bytes.ts";
import { naming, runMachine } from "./run/config.ts";
import { ConsoleText, openConsoleLog } from "./run/console-text.ts";
import { Expectations, readSteps } from "./run/expectations.ts";
import { durationMs, type RunOptions } from "./run/options.ts";
import { checkReports, writeReports } from "./run/report.ts";
import { Run } from "./run/run.ts";
import { type Job, Session } from "./run/session.ts";
import type { Verdict } from "./run/verdict.ts";

const stderr = 2;
const signals = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"] as const;

/** Gives the exit code; what throws before the machine runs is for the caller to say. */
export async function runRun(input: CommandInput): Promise<number> {
  const { positionals, rest, vmm: vmmOptions } = input;
  const options = input.options as RunOptions;
  const [image] = positionals;
  if (image === undefined) {
    throw new UsageError("run: no image; write chv run IMAGE [-- COMMAND…]", "IMAGE");
  }
  refuseReactions(vmmOptions);
  const hasCommand = rest.length > 0;
  if (hasCommand && vmmOptions.logFile === undefined && vmmOptions.verbosity === 0) {
    log.setLevel(LogLevel.error); // standard error is the command's
  }
  checkReports(options);
  let run: Run;
  let early: (typeof signals)[number] | undefined;
  for (const signal of signals) {
    process.on(signal, () => {
      if (run === undefined) early = signal;
      else run.signalled(signal);
    });
  }
  const steps = readSteps(options);
  const startNs = monotonicNs() - performance.now() * 1e6;
  const events = new EventLog(startNs, Date.now() - performance.now());
  const monitor = vmmOptions.eventMonitor && EventMonitor.to(vmmOptions.eventMonitor);
  if (monitor) events.next((event) => monitor.write(event));

  let api: Awaited<ReturnType<typeof serve>> | undefined;
  const expectations = new Expectations(
    steps,
    options.failOn ?? [],
    (console, text) => run.type(console, text),
    () => run.expectationsMet(),
    () => run.failOn(),
  );
  const job = jobOf(options, asGiven(rest));
  const session = hasCommand ? openSession(job, () => run) : undefined;
  const control = await openControl(options, hasCommand, () => run);
  const { ports } = session?.channel ?? control?.channel ?? {};
  const machine = runMachine(image, options, ports, vmmOptions);
  const shows = () =>
    hasCommand &&
    (options.progress ||
      (isTerminal(stderr) && session?.state !== "started" && session?.state !== "ended"));
  const progress = (line: string) => {
    if (shows()) writeAll(stderr, Buffer.from(`${line}\n`));
  };
  run = new Run({
    ...{ events, machine, session, progress, timeout: options.timeout },
    timeoutMs: options.timeout === undefined ? undefined : durationMs(options.timeout),
    describe: () => {
      const { describeDisk } = require("../machine/disk-boot/describe.ts") as typeof Describe;
      return describeDisk({ path: image, backing_files: options.backingFiles });
    },
    serve: async (vmm) => {
      api = await serve(vmm, vmmOptions);
      await control?.begin(vmm);
    },
  });
  if (early !== undefined) run.signalled(early);
  process.on("exit", () => run.vmm.restoreTerminal());
  process.on("SIGWINCH", () => run.vmm.guest?.machine.terminalResized());
  const consoleLog =
    options.consoleLog === undefined ? undefined : openConsoleLog(options.consoleLog);
  const text = new ConsoleText({
    ...{ log: consoleLog, show: progress, expectations },
    line: (line) => run.line(line),
  });

  let verdict: Verdict;
  try {
    verdict = await run.verdict(text, expectations);
  } catch (error) {
    machine.close(true);
    throw naming(error, image, machine);
  }
  run.close();
  await run.vmm.close();
  await api?.close();
  text.close();
  machine.close(false);
  session?.channel.close();
  run.timings.end = Math.round(performance.now());
  if (text.problem !== undefined) say(`--console-log ${options.consoleLog}: ${text.problem}`);
  const problem = writeReports(options, {
    ...{
      verdict,
      phase: run.phase,
      image,
      command: rest,
      timings: run.timings,
      console: text.last,
    },
  });
  events.tell("vmm", "exit", monotonicNs(), { code: verdict.status });
  const { reason, status, message = null } = verdict;
  await control?.over({ reason, status, message });
  if (problem !== undefined) say(problem);
  if (verdict.by === "chv" && verdict.status !== 0 && verdict.message !== undefined) {
    say(verdict.message);
  }
  return verdict.status;
}

/** What the guest's end leads to is the run's to say. */
function refuseReactions({ onReboot, onPoweroff, onPanic }: VmmOptions): void {
  const asked = [
    ["--on-reboot", onReboot !== "restart"],
    ["--on-poweroff", onPoweroff !== "exit"],
    ["--on-panic", onPanic !== "exit"],
  ] as const;
  const found = asked.find(([, given]) => given);
  if (!found) return;
  throw new UsageError(`${found[0]}: chv run decides that itself; leave it out`, found[0]);
}

const say = (line: string) => void writeAll(stderr, Buffer.from(`chv: ${printable(line)}\n`));

function jobOf(options: RunOptions, argv: readonly string[]): Job {
  const { env = [], workdir, user } = options;
  const variables = env.map((text) => {
    const at = text.indexOf("=");
    return [text.slice(0, at), text.slice(at + 1)];
  });
  return { argv, env: Object.fromEntries(variables), workdir, user, sync: outlived(options) };
}

/** Something that the guest writes is there after its end. */
const outlived = ({ keep, disks = [] }: RunOptions): boolean =>
  keep !== undefined || disks.some(({ readonly }) => !readonly);

/** The run is made after its session: the machine needs the session's ports. */
const openSession = (job: Job, run: () => Run): Session =>
  new Session(job, {
    runnerThere: () => run().runnerThere(),
    bootOver: () => run().bootOver(),
    started: () => run().started(),
    ended: (ended) => run().commandEnded(ended),
    lost: (why) => run().lost(why),
  });

/** `--control`. Throws UsageError. */
async function openControl(options: RunOptions, hasCommand: boolean, run: () => Run) {
  if (options.control === undefined) return undefined;
  if (hasCommand) {
    throw new UsageError("--control: the commands come by it; leave -- COMMAND out", "--control");
  }
  const { Control } = await import("./run/control.ts");
  const sync = outlived(options);
  const askGuest = () => {
    if (control.series.silent) run().vmm.guest?.machine.pressPowerButton();
    else control.channel.say("poweroff");
  };
  const control = new Control(options.control, sync, (inOrder) =>
    run().told(inOrder && sync ? askGuest : undefined),
  );
  return control;
}
