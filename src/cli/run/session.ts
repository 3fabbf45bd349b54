/** What chv and the runner in the guest say to each other, and where the command stands. */
import { Channel } from "./channel.ts";

/** A command, as the runner takes it. */
export interface Job {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workdir?: string | undefined;
  readonly user?: string | undefined;
  /** What was written is to be on the disks before the command counts as ended. */
  readonly sync: boolean;
  /** Another may follow it, and the end of its input is told. */
  readonly more?: boolean;
}

export interface Ended {
  readonly status: number;
  /** The signal that ended the command; undefined when it ended by itself. */
  readonly signal: number | undefined;
  /** Bytes that it put out, on both ports and on each. */
  readonly outputBytes: number;
  readonly output: number;
  readonly error: number;
}

export interface SessionListener {
  runnerThere(): void;
  bootOver(): void;
  started(): void;
  ended(ended: Ended): void;
  /** It started over, or does what no runner does. */
  lost(why: string): void;
}

export type SessionState = "silent" | "there" | "asked" | "started" | "ended";

const numbers = (text: string): number[] | undefined =>
  /^\d{1,15}(?: \d{1,15}){2}$/.test(text) ? text.split(" ").map(Number) : undefined;

/** What the runner's last line on a command says; undefined when no runner says that. */
export function endOf(word: "exited" | "killed", rest: string): Ended | undefined {
  const killed = word === "killed";
  const [number = -1, output = 0, error = 0] = numbers(rest) ?? [];
  if (number < 0 || number > 255 || (killed && (number < 1 || number > 64))) return undefined;
  const status = killed ? 128 + number : number;
  const outputBytes = output + error;
  return { ...{ status, signal: killed ? number : undefined, outputBytes, output, error } };
}

export class Session {
  readonly channel: Channel;
  #state: SessionState = "silent";
  #signal = 0;

  constructor(
    readonly job: Job,
    readonly listener: SessionListener,
  ) {
    this.channel = new Channel((line) => this.#heard(line));
  }

  get state(): SessionState {
    return this.#state;
  }

  /** The command is on its way, or has run. */
  get begun(): boolean {
    return this.#state === "asked" || this.#state === "started" || this.#state === "ended";
  }

  /** The guest starts over before the command has been asked for. */
  beginLife(): void {
    this.channel.beginLife();
    if (!this.begun) this.#state = "silent";
  }

  /** For the command; one that has not started gets it when it has. */
  signal(number: number): void {
    if (this.#state === "started") this.channel.say(`signal ${number}`);
    else this.#signal = number;
  }

  powerOff(): void {
    this.channel.say("poweroff");
  }

  /** Lines that mean nothing here are the guest's business. */
  #heard(line: string): void {
    const space = line.indexOf(" ");
    const [word, rest] = space < 0 ? [line, ""] : [line.slice(0, space), line.slice(space + 1)];
    const state = this.#state;
    if (word === "hello") {
      if (this.begun) {
        if (state !== "ended") this.listener.lost("the runner in the guest has started over");
        return;
      }
      this.#state = "there";
      this.listener.runnerThere();
    } else if (word === "ready" && state === "there") {
      this.#state = "asked";
      this.listener.bootOver();
      this.channel.say(JSON.stringify(this.job));
    } else if (word === "started" && state === "asked") {
      this.#state = "started";
      this.listener.started();
      if (this.#signal > 0) this.signal(this.#signal);
    } else if ((word === "exited" || word === "killed") && this.begun && state !== "ended") {
      const ended = endOf(word, rest);
      if (ended === undefined) {
        this.listener.lost("the runner in the guest says what no runner says");
        return;
      }
      this.#state = "ended";
      this.listener.ended(ended);
    }
  }
}
