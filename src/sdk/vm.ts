/** A machine that a script drives. */
import type { Over, Told } from "../cli/run/protocol.ts";
import { Commands } from "./commands.ts";
import { Connection } from "./connection.ts";
import { Console, type ConsoleName, type ExpectOptions } from "./console.ts";
import { Ctl } from "./ctl.ts";
import { type Deferred, deferred } from "./deferred.ts";
import { type Exit, MachineError, RefusedError, type RunResult } from "./errors.ts";
import { Events } from "./events.ts";
import type { Launch } from "./launch.ts";
import type { RunOptions } from "./run-options.ts";

/** A call of the API that waits for its answer. */
type Answer = Deferred<{ readonly status: number; readonly body: string }>;

export class Vm implements AsyncDisposable {
  /** What the consoles say; `for await` gives its lines, from the start on. */
  readonly console: Console;
  /** What happens to the machine; `for await` gives all of it, from the start on. */
  readonly events = new Events();
  /** The operations of the API. */
  readonly ctl: Ctl;
  /** How the machine has ended, once it has; never rejects. */
  readonly exited: Promise<Exit>;
  /** The process id of its chv. */
  readonly pid: number;
  readonly #launch: Launch;
  /** It is killed if it takes longer to end. */
  readonly #endMs: number;
  readonly #connection: Connection;
  readonly #commands: Commands;
  readonly #calls = new Map<number, Answer>();
  readonly #running = deferred();
  #lastId = 0;
  #said: Over | undefined;
  #over: MachineError | undefined;

  /** @internal */
  constructor(launch: Launch, defaults: Pick<RunOptions, "env" | "cwd" | "user">, endMs: number) {
    this.#launch = launch;
    this.#endMs = endMs;
    this.pid = launch.pid;
    const connection = new Connection(launch.control, (told) => this.#told(told));
    this.#connection = connection;
    const nextId = () => ++this.#lastId;
    this.#commands = new Commands(launch, (said) => connection.say(said), nextId, defaults);
    this.console = new Console((text, console) => this.send(text, console && { console }));
    this.ctl = new Ctl((method, operation, body) => this.#call(method, operation, body));
    this.exited = launch.exited.then((exit) => this.#ended(this.#said ?? exit));
  }

  /** Resolves when the guest runs. @internal */
  get running(): Promise<void> {
    return this.#running.promise;
  }

  /** What chv itself has written: warnings, mostly. */
  get log(): string {
    return this.#launch.log();
  }

  /**
   * Runs a command in the guest, when cloud-init has done its work and earlier commands have ended. A string is for
   * /bin/sh; a list is a program and its arguments. Throws CommandError, MachineError.
   */
  run(
    command: string | readonly string[],
    options: RunOptions & { readonly bytes: true },
  ): Promise<RunResult<Uint8Array>>;
  run(command: string | readonly string[], options?: RunOptions): Promise<RunResult>;
  async run(command: string | readonly string[], options: RunOptions = {}): Promise<unknown> {
    return this.#commands.run(command, options);
  }

  /**
   * Waits until a line of a console matches, also one that has no end yet, behind what was expected before. Lines come
   * without escape sequences. Throws ExpectError, MachineError.
   */
  expect(pattern: RegExp | string, options: ExpectOptions = {}): Promise<RegExpExecArray> {
    return this.console.expect(pattern, options);
  }

  /** Types text, "\n" for Enter: into the console of the last expectation that was met, if not said. */
  async send(text: string, options: { readonly console?: ConsoleName } = {}): Promise<void> {
    const { console = this.console.last } = options;
    await this.#call("PUT", "vm.console.write", { data: text, ...(console && { console }) });
  }

  /** Ends the machine; nothing stays of it. Where its disks outlive it, the guest is powered off in order. */
  async stop(): Promise<Exit> {
    this.#connection.say({ end: true });
    const timer = setTimeout(this.#launch.kill, this.#endMs);
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #call(method: "GET" | "PUT", operation: string, body?: unknown): Promise<unknown> {
    if (this.#over) throw this.#over;
    const answer: Answer = deferred();
    const id = ++this.#lastId;
    this.#calls.set(id, answer);
    this.#connection.say({ id, call: operation, method, body });
    const { status, body: text } = await answer.promise;
    const json = parse(text);
    if (status < 400) return json;
    throw new RefusedError(status, Array.isArray(json) ? json.map(String) : [text]);
  }

  #told(told: Told): void {
    if ("hello" in told) this.#running.resolve();
    else if ("event" in told) this.events.take(told.event);
    else if ("data" in told) this.console.take(told.console, Buffer.from(told.data, "base64"));
    else if ("console" in told) this.console.take(told.console, lostBytes(told.lost));
    else if ("body" in told) {
      this.#calls.get(told.id)?.resolve(told);
      this.#calls.delete(told.id);
    } else if ("over" in told) this.#said = told.over;
    else this.#commands.told(told);
  }

  #ended(exit: Exit): Exit {
    const over = new MachineError(exit, this.log);
    this.#over = over;
    this.#running.reject(over);
    for (const answer of this.#calls.values()) answer.reject(over);
    this.#commands.close(over);
    this.console.close(over);
    this.events.close();
    this.#connection.close();
    const { stdin, stdout, stderr } = this.#launch;
    for (const stream of [stdin, stdout, stderr]) stream.destroy();
    return exit;
  }
}

const lostBytes = (count: number) => new TextEncoder().encode(`\n[${count} bytes lost]\n`);

/** JSON, or the text as it is; nothing for nothing. */
function parse(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
