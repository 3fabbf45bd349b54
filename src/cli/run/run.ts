/** One run: from the machine's start to the verdict. What decides about the end is here; what is said of it is not. */
import { ExitCode } from "../../exit-codes.ts";
import { monotonicNs } from "../../ffi/clock.ts";
import { typeBytes } from "../../machine/console/typed.ts";
import type { EventLog, VmmEvent } from "../../machine/vmm/events.ts";
import { type End, Vmm } from "../../machine/vmm/vmm.ts";
import type { RunMachine } from "./config.ts";
import type { ConsoleText } from "./console-text.ts";
import { type Describe, diagnose, isTelling } from "./diagnosis.ts";
import type { Expectations } from "./expectations.ts";
import type { Ended, Session } from "./session.ts";
import { failure, type Phase, phases, type Verdict } from "./verdict.ts";

/** A runner that has not spoken when a login prompt is this old will not. */
const silenceMs = 30_000;
/** Words that follow a panic are waited for. */
const lastWordsMs = 100;
const tellingMost = 100;
/** A command that was told to end has this long. */
const graceMs = 5000;
/** An orderly power-off has this long. */
const powerOffMs = 90_000;
const signalNumbers = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;
const [SIGINT, SIGPIPE] = [2, 13];

export interface RunParts {
  readonly events: EventLog;
  readonly machine: RunMachine;
  /** Undefined without a command. */
  readonly session: Session | undefined;
  readonly timeoutMs: number | undefined;
  /** `--timeout` as it was given. */
  readonly timeout: string | undefined;
  readonly progress: (line: string) => void;
  /** What lies on the image, for a diagnosis. */
  readonly describe: Describe;
  /** Serves the API, where it is wanted. */
  readonly serve: (vmm: Vmm) => Promise<void>;
}

export class Run {
  readonly vmm: Vmm;
  readonly timings: Record<string, number> = {};
  readonly #done = Promise.withResolvers<Verdict>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #text: ConsoleText | undefined;
  #expectations: Expectations | undefined;
  #phase: Phase = "starting";
  /** What the console said that a boot died of. */
  #diagnosis: Verdict | undefined;
  /** A signal that was sent to chv, as a shell counts it. */
  #interrupted = 0;
  #poweredOff = false;
  /** Lines of this boot that a diagnosis may need. */
  #telling: string[] = [];
  #silence: ReturnType<typeof setTimeout> | undefined;
  #command: Ended | undefined;

  constructor(readonly parts: RunParts) {
    const reactions = { onReboot: "restart", onPoweroff: "exit", onPanic: "exit" } as const;
    this.vmm = new Vmm(parts.events, reactions, true);
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Boots, and resolves when it is clear how the run ends. Throws ConfigError and KvmError. */
  async verdict(text: ConsoleText, expectations: Expectations): Promise<Verdict> {
    const { events, machine, session, timeoutMs, timeout } = this.parts;
    this.#text = text;
    this.#expectations = expectations;
    if (timeoutMs !== undefined) {
      const late = () => {
        const where = `the guest got as far as "${this.#phase}"`;
        this.finish(failure(ExitCode.timeout, `--timeout ${timeout}: ${where}`));
      };
      this.#after(timeoutMs, late);
    }
    events.next((event) => this.#event(event));
    await session?.channel.open();
    const booted = this.vmm.bootNow(machine.config);
    this.#reach("booting");
    await booted;
    text.follow(this.vmm.consoles.logs);
    await this.parts.serve(this.vmm);
    void this.vmm.ended.then((end) => this.#vmmEnded(end));
    return this.#done.promise;
  }

  /** The program that drives the run has had enough. `askGuest`: it powers itself off first. */
  told(askGuest?: () => void): void {
    const quit = () => this.finish({ status: ExitCode.ok, by: "chv", reason: "quit" });
    if (askGuest && this.vmm.state === "Running") {
      askGuest();
      this.#after(powerOffMs, quit);
    } else quit();
  }

  /** The first reason counts. */
  finish(verdict: Verdict): void {
    this.#done.resolve(verdict);
  }

  /** Nothing that was to come later comes any more. */
  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    clearTimeout(this.#silence);
  }

  #after(ms: number, run: () => void): void {
    this.#timers.add(setTimeout(run, ms));
  }

  #reach(phase: Phase): void {
    this.#phase = phase;
    this.timings[phase] ??= Math.round(performance.now());
    this.parts.progress(`chv: ${phase}`);
    this.#text?.note(phase);
  }

  /** A line of a console. */
  line(line: string): void {
    if (this.#diagnosis) return;
    if (isTelling(line) && this.#telling.length < tellingMost) this.#telling.push(line);
    const kernel = this.vmm.guest?.machine.kernel;
    const verdict = diagnose(line, [...this.#telling, ...(this.#text?.last ?? [])], {
      describe: this.parts.describe,
      ...(kernel && { cmdline: kernel.cmdline, initramfs: kernel.initramfs !== undefined }),
    });
    if (!verdict) return;
    const isPanic = verdict.status === ExitCode.guestPanic;
    if (!isPanic && this.parts.session?.begun) return;
    this.#diagnosis = verdict;
    this.#after(lastWordsMs, () => this.finish(verdict));
  }

  /** Types into a console. */
  type(console: string, text: string): void {
    const spec = this.vmm.guest?.machine.consoles.find(({ name }) => name === console);
    if (spec?.typed) typeBytes(spec.typed, new TextEncoder().encode(text));
  }

  expectationsMet(): void {
    if (!this.parts.session) this.finish({ status: ExitCode.ok, by: "chv", reason: "expected" });
  }

  /** A line has come that must not; what follows it is waited for. */
  failOn(): void {
    this.#after(lastWordsMs, () => {
      const { text, line } = this.#expectations!.failure!;
      this.finish(failure(ExitCode.failOn, `--fail-on ${JSON.stringify(text)} matched: ${line}`));
    });
  }

  #event({ source, event, properties }: VmmEvent): void {
    const { session } = this.parts;
    const name = `${source}/${event}`;
    if (name === "guest/kernel" && this.#before("kernel")) {
      this.#reach("kernel");
    } else if (name === "guest/login") {
      if (this.#before("login")) this.#reach("login");
      if (session?.state === "silent") this.#awaitRunner();
    } else if (name === "vm/reset") {
      this.#reset(String(properties?.source));
    } else if (name === "vm/poweroff") {
      this.#poweredOff = true;
    } else if (name === "vm/shutdown") {
      this.#shutDown();
    } else if (name === "vm/output-lost") {
      this.#outputLost(String(properties?.reason));
    }
  }

  /** By a client of the API. */
  #shutDown(): void {
    if (this.#command) return;
    if (this.parts.session) this.finish(failure(ExitCode.guestGone, shutDown));
    else this.finish({ status: ExitCode.ok, by: "chv", reason: "quit" });
  }

  #before(phase: Phase): boolean {
    return phases.indexOf(this.#phase) < phases.indexOf(phase);
  }

  #awaitRunner(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      const why = "the image has no cloud-init, or it is turned off";
      const seconds = silenceMs / 1000;
      const what = `no word of the runner ${seconds} s after the login prompt`;
      this.finish(failure(ExitCode.bootFailed, `${what}: ${why}`));
    }, silenceMs);
  }

  #reset(by: string): void {
    const { session } = this.parts;
    clearTimeout(this.#silence);
    if (session?.begun) {
      if (this.#command) return;
      const why = `the guest was reset (${by}) before the command ended`;
      this.finish(failure(ExitCode.guestGone, why));
      return;
    }
    session?.beginLife();
    this.#telling = [];
    this.#expectations?.beginLife();
    this.#reach("booting");
  }

  /** Nobody takes what the command puts out: it is told as by any pipe. */
  #outputLost(reason: string): void {
    const { session } = this.parts;
    const port = /^port org\.chv\.(stdout|stderr): .*: (\w+)$/.exec(reason);
    if (!port || !session) return;
    const [, stream, error] = port;
    if (error === "EPIPE") session.signal(SIGPIPE);
    else this.finish(failure(ExitCode.configuration, `${stream}: ${error}; the output is lost`));
  }

  // what the runner says, on a way of its own: what the guest said on a console before comes before

  #reachByRunner(phase: Phase): void {
    this.vmm.guest?.consoles?.poll();
    this.#reach(phase);
  }

  runnerThere(): void {
    clearTimeout(this.#silence);
    this.#reachByRunner("runner");
  }

  bootOver(): void {
    this.#reachByRunner("ready");
  }

  started(): void {
    this.#reachByRunner("command");
  }

  lost(why: string): void {
    this.finish(failure(ExitCode.guestGone, why));
  }

  commandEnded(ended: Ended): void {
    this.#command = ended;
    this.#reachByRunner("ended");
    void this.#drain(ended).then(() => this.#judge(ended));
  }

  /** Until all that the command put out has gone where it goes, at the pace of whoever reads it. */
  async #drain({ outputBytes }: Ended): Promise<void> {
    const { channel } = this.parts.session!;
    for (;;) {
      const counters = this.vmm.guest?.machine.counters().__ports;
      if (!counters || counters.write_bytes! >= channel.received + outputBytes) return;
      await Bun.sleep(1);
    }
  }

  async #judge({ status, signal }: Ended): Promise<void> {
    const { session } = this.parts;
    if (session!.job.sync) await this.#powerOff();
    const open = this.#expectations?.open;
    if (this.#interrupted > 0 && status === 0) {
      this.finish(failure(this.#interrupted, "interrupted", { reason: "interrupted" }));
    } else if (open !== undefined && status === 0) {
      this.finish(notMet(open, "the command has ended"));
    } else {
      this.finish({ status, by: "guest", reason: "command", signal });
    }
  }

  /** An orderly end, for disks that outlive the machine. */
  async #powerOff(): Promise<void> {
    this.parts.session!.powerOff();
    const until = monotonicNs() + powerOffMs * 1e6;
    while (!this.#poweredOff && monotonicNs() < until) await Bun.sleep(5);
  }

  #vmmEnded({ code, why }: End): void {
    if (this.#command) return; // it powers off as it was told, and what the command said counts
    this.vmm.consoles.poll();
    const { session } = this.parts;
    if (code === ExitCode.guestPanic || code !== ExitCode.ok) {
      this.finish(
        this.#diagnosis ?? failure(code, why ?? "the machine has ended", panicOf(code, why)),
      );
      return;
    }
    const open = this.#expectations?.open;
    if (!this.#poweredOff && session) {
      this.finish(failure(ExitCode.guestGone, shutDown));
    } else if (!this.#poweredOff) {
      this.finish({ status: ExitCode.ok, by: "chv", reason: "quit" });
    } else if (this.#diagnosis) {
      this.finish(this.#diagnosis);
    } else if (session) {
      const when = session.begun ? "ended" : "started";
      this.finish(failure(ExitCode.guestGone, `the guest powered off before the command ${when}`));
    } else if (open !== undefined) {
      this.finish(notMet(open, "the guest has powered off"));
    } else {
      this.finish({ status: ExitCode.ok, by: "guest", reason: "poweroff" });
    }
  }

  /** A signal for chv itself: the command gets it, if there is one, and the run ends. */
  signalled(signal: keyof typeof signalNumbers): void {
    const { session } = this.parts;
    const number = signalNumbers[signal];
    const again = this.#interrupted > 0;
    this.#interrupted = 128 + number;
    const verdict = failure(128 + number, `ended by ${signal}`, { reason: "interrupted" });
    if (again || !session?.begun || this.#command) {
      this.finish(verdict);
      return;
    }
    session.signal(number);
    if (number !== SIGINT) this.#after(graceMs, () => this.finish(verdict));
  }
}

const shutDown = "the machine was shut down before the command ended";

const notMet = (text: string, when: string): Verdict =>
  failure(ExitCode.expectNotMet, `--expect ${JSON.stringify(text)} not met, and ${when}`);

const panicOf = (code: number, why: string | undefined): Partial<Verdict> =>
  code === ExitCode.guestPanic && why !== undefined ? { panic: why } : {};
