/** Commands one after the other, in a guest that may start over between them: where the one at hand stands. */
import type { Asked } from "./protocol.ts";
import { type Ended, endOf } from "./session.ts";

export interface SeriesListener {
  /** The runner takes a command. */
  ready(): void;
  started(id: number): void;
  ended(id: number, ended: Ended): void;
  /** It will not come to an end, or never starts. */
  lost(id: number, why: string): void;
}

/** `there`: the runner is there, and takes no command now. */
type State = "silent" | "there" | "ready" | "asked" | "started";

export class Series {
  #state: State = "silent";
  #id = 0;
  /** For a command that has not started. */
  #signal: number | undefined;

  constructor(
    /** Writes a line to the runner. */
    readonly say: (line: string) => void,
    readonly listener: SeriesListener,
    /** What commands write is to be on the disks when they end. */
    readonly sync: boolean,
  ) {}

  /** The runner has not been heard since the guest's start. */
  get silent(): boolean {
    return this.#state === "silent";
  }

  get #begun(): boolean {
    return this.#state === "asked" || this.#state === "started";
  }

  /** Runs a command; the runner must be ready. */
  ask(id: number, asked: Asked): void {
    if (this.#state !== "ready") {
      this.listener.lost(id, "the runner in the guest is not ready");
      return;
    }
    this.#state = "asked";
    this.#id = id;
    this.#signal = undefined;
    this.say(JSON.stringify({ ...asked, sync: this.sync, more: true }));
  }

  /** The command's input has its end after so many bytes. Also after its end: the runner waits for it. */
  input(id: number, bytes: number): void {
    if (id === this.#id && this.#state !== "silent") this.say(`input ${bytes}`);
  }

  signal(id: number, number: number): void {
    if (id !== this.#id) return;
    if (this.#state === "started") this.say(`signal ${number}`);
    else if (this.#state === "asked") this.#signal = number;
  }

  /** The guest starts over. */
  beginLife(why: string): void {
    const begun = this.#begun;
    const id = this.#id;
    this.#state = "silent";
    this.#id = 0;
    if (begun) this.listener.lost(id, why);
  }

  /** A line of the runner's; what means nothing here is the guest's business. */
  heard(line: string): void {
    const [word, ...rest] = line.split(" ");
    if (word === "hello") {
      this.beginLife("the runner in the guest has started over");
      this.#state = "there";
    } else if (word === "ready" && this.#state === "there") {
      this.#state = "ready";
      this.listener.ready();
    } else if (word === "started" && this.#state === "asked") {
      this.#state = "started";
      this.listener.started(this.#id);
      if (this.#signal !== undefined) this.say(`signal ${this.#signal}`);
    } else if ((word === "exited" || word === "killed") && this.#begun) {
      this.#state = "there";
      const ended = endOf(word, rest.join(" "));
      if (ended) this.listener.ended(this.#id, ended);
      else this.listener.lost(this.#id, "the runner in the guest says what no runner says");
    }
  }
}
