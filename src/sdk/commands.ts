/** Commands in the guest, one after the other: what `vm.run` does. */
import type { Readable, Writable } from "node:stream";
import type { Asked, Request, Told } from "../cli/run/protocol.ts";
import { type Deferred, deferred } from "./deferred.ts";
import { CommandError, type RunResult } from "./errors.ts";
import { type Feed, feed } from "./input.ts";
import { durationMs } from "./options.ts";
import { Output } from "./output.ts";
import type { RunOptions } from "./run-options.ts";

/** A command that was told to end has this long; then it is killed, and has as long again. */
const graceMs = 5000;
const [SIGKILL, SIGTERM] = [9, 15];

type Ended = Extract<Told, { readonly ended: number }>;

interface Job {
  readonly id: number;
  readonly asked: Asked;
  readonly command: string | readonly string[];
  readonly options: RunOptions;
  readonly kept: { readonly stdout: Uint8Array[]; readonly stderr: Uint8Array[] };
  /** It has been sent to the guest. */
  sent: boolean;
  readonly ended: Deferred<Ended>;
  readonly result: Deferred<RunResult<string | Uint8Array>>;
}

export class Commands {
  readonly #outputs: { readonly stdout: Output; readonly stderr: Output };
  #ready = deferred();
  #tail: Promise<unknown> = Promise.resolve();
  #job: Job | undefined;
  readonly #waiting = new Set<Job>();
  /** Why nothing more can run. */
  #over: Error | undefined;
  #absent: string | undefined;

  readonly #stdin: Writable;

  constructor(
    streams: {
      readonly stdin: Writable;
      readonly stdout: Readable;
      readonly stderr: Readable;
    },
    readonly say: (request: Request) => void,
    /** A number that no other request has. */
    readonly nextId: () => number,
    readonly defaults: Pick<RunOptions, "env" | "cwd" | "user">,
  ) {
    this.#stdin = streams.stdin;
    streams.stdin.on("error", () => {});
    this.#outputs = { stdout: new Output(streams.stdout), stderr: new Output(streams.stderr) };
  }

  /** Throws TypeError for a timeout that is none. */
  run(
    command: string | readonly string[],
    options: RunOptions,
  ): Promise<RunResult<string | Uint8Array>> {
    const { env, cwd = this.defaults.cwd, user = this.defaults.user } = options;
    const job: Job = {
      ...{ id: this.nextId(), command, options, sent: false, kept: { stdout: [], stderr: [] } },
      asked: {
        argv: typeof command === "string" ? ["/bin/sh", "-c", command] : [...command],
        env: { ...this.defaults.env, ...env },
        ...(cwd === undefined ? {} : { workdir: cwd }),
        ...(user === undefined ? {} : { user }),
      },
      ended: deferred(),
      result: deferred(),
    };
    if (this.#over) return Promise.reject(this.#over);
    if (this.#absent !== undefined) return Promise.reject(this.#absence(job));
    const timeoutMs = options.timeout === undefined ? undefined : durationMs(options.timeout);
    this.#waiting.add(job);
    const unlimit = this.#limit(job, timeoutMs);
    this.#tail = this.#tail.then(() => this.#perform(job)).catch(job.result.reject);
    return job.result.promise.finally(() => {
      this.#waiting.delete(job);
      unlimit();
    });
  }

  /** Ends the command when its time is over or it is aborted; the function takes that back. */
  #limit(job: Job, timeoutMs: number | undefined): () => void {
    const { signal } = job.options;
    const timers: ReturnType<typeof setTimeout>[] = [];
    const after = (ms: number, run: () => void) => timers.push(setTimeout(run, ms));
    const stop = (why: unknown) => {
      this.#waiting.delete(job);
      if (!job.sent) return job.result.reject(why);
      this.say({ id: job.id, signal: SIGTERM });
      after(graceMs, () => this.say({ id: job.id, signal: SIGKILL }));
      after(2 * graceMs, () => job.result.reject(why));
      void job.ended.promise.then(() => job.result.reject(why)).catch(() => {});
    };
    if (timeoutMs !== undefined) {
      const late = `has not ended in ${timeoutMs} ms`;
      after(timeoutMs, () => stop(this.#failure(job, "timeout", late)));
    }
    const aborted = () => stop(signal!.reason);
    signal?.addEventListener("abort", aborted);
    if (signal?.aborted) aborted();
    return () => {
      for (const timer of timers) clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
    };
  }

  #failure(job: Job, reason: CommandError["reason"], why: string): CommandError {
    return new CommandError(why, job.command, reason, this.#kept(job));
  }

  #absence(job: Job): CommandError {
    return this.#failure(job, "boot", this.#absent!);
  }

  /** What a command has put out so far. */
  #kept({ kept, options }: Job) {
    const [stdout, stderr] = [Buffer.concat(kept.stdout), Buffer.concat(kept.stderr)];
    if (options.bytes) return { stdout: new Uint8Array(stdout), stderr: new Uint8Array(stderr) };
    return { stdout: stdout.toString(), stderr: stderr.toString() };
  }

  /** In its turn. */
  async #perform(job: Job): Promise<void> {
    if (!this.#waiting.has(job)) return;
    await this.#ready.promise;
    if (!this.#waiting.has(job)) return;
    this.#ready = deferred();
    this.#job = job;
    job.sent = true;
    const { stdout, stderr } = this.#outputs;
    const [out, err] = [stdout.received, stderr.received];
    const { kept, options } = job;
    stdout.handTo(options.onStdout ?? ((bytes) => void kept.stdout.push(bytes)));
    stderr.handTo(options.onStderr ?? ((bytes) => void kept.stderr.push(bytes)));
    this.say({ id: job.id, run: job.asked });
    const input = feed(options.stdin, this.#stdin);
    void this.#tellInput(job, input);
    try {
      const { ended: status, signal, output, error } = await job.ended.promise;
      input.stop();
      await Promise.all([
        stdout.until(() => stdout.received >= out + output),
        stderr.until(() => stderr.received >= err + error),
      ]);
      this.#judge(job, { ...this.#kept(job), status, signal });
    } finally {
      input.stop();
      stdout.drop();
      stderr.drop();
      this.#job = undefined;
    }
  }

  /** The runner in the guest waits to hear where the input ends, also after the command's end. */
  async #tellInput({ id, result }: Job, input: Feed): Promise<void> {
    const error = await input.ended.then(
      () => undefined,
      (why: unknown) => ({ why }),
    );
    this.say({ id, input: input.bytes });
    if (!error) return;
    this.say({ id, signal: SIGKILL });
    result.reject(error.why);
  }

  #judge(job: Job, result: RunResult<string | Uint8Array>): void {
    if (!job.options.check || result.status === 0) job.result.resolve(result);
    else {
      const { command } = job;
      const said = typeof result.stderr === "string" ? result.stderr.trimEnd().slice(-500) : "";
      const why = `exit status ${result.status}${said === "" ? "" : `\n${said}`}`;
      job.result.reject(new CommandError(why, command, "status", result));
    }
  }

  /** What chv says of the runner and of commands. */
  told(told: Told): void {
    if ("ready" in told) void this.#becomeReady(told.outputs);
    else if ("absent" in told) {
      this.#absent = told.absent;
      for (const job of this.#waiting) job.result.reject(this.#absence(job));
    } else if ("ended" in told && told.id === this.#job?.id) this.#job.ended.resolve(told);
    else if ("lost" in told && "id" in told && told.id === this.#job?.id) {
      this.#job.ended.reject(this.#failure(this.#job, "guest-gone", told.lost));
    }
  }

  /** What a lost command put out has come, and is nobody's, before the next one may start. */
  async #becomeReady(outputs: number | undefined): Promise<void> {
    this.#absent = undefined;
    const { stdout, stderr } = this.#outputs;
    const all = () => stdout.received + stderr.received >= (outputs ?? 0);
    if (!all()) await Promise.race([stdout.until(all), stderr.until(all)]);
    this.#ready.resolve();
  }

  /** The machine is over: nothing comes any more. */
  close(why: Error): void {
    this.#over = why;
    this.#job?.ended.reject(why);
    this.#job?.result.reject(why);
    for (const job of this.#waiting) job.result.reject(why);
    this.#ready.resolve();
  }
}
