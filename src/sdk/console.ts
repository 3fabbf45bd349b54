/** What the consoles say, as lines of text; waiting for one. */
import { stripVTControlCharacters } from "node:util";
import { deferred } from "./deferred.ts";
import { ExpectError } from "./errors.ts";
import { type Duration, durationMs } from "./options.ts";

export type ConsoleName = "serial" | "console";

export interface ConsoleLine {
  /** The serial port (ttyS0), or hvc0. */
  readonly console: ConsoleName;
  readonly text: string;
}

export interface ExpectOptions {
  /** 2 minutes if not given. */
  readonly timeout?: Duration;
  /** This console alone. */
  readonly console?: ConsoleName;
}

const presetTimeout = "2m";
const shownLines = 10;
/** Older lines are forgotten. */
const keptLines = 20_000;
const lineMost = 64 * 1024;

/** A line as a person reads it: without escape sequences, and what a carriage return has taken back. */
const plain = (line: string): string =>
  stripVTControlCharacters(line)
    .replace(/\r+$/, "")
    .replace(/^[^\n]*\r(?=.)/, "")
    .replaceAll(/[^\t\x20-\x7e\x80-\uffff]/g, "");

/** One console's lines. Numbers of lines count from the start; forgotten ones keep theirs. */
class Lines {
  readonly #lines: string[] = [];
  #forgotten = 0;
  #raw = "";
  /** The line that has not ended, as it is read. */
  #open = "";
  readonly #decoder = new TextDecoder();

  constructor(readonly name: ConsoleName) {}

  /** How many have ended. */
  get count(): number {
    return this.#forgotten + this.#lines.length;
  }

  get first(): number {
    return this.#forgotten;
  }

  /** A line; the one behind the last is the one that has not ended. */
  at(number: number): string {
    return number >= this.count ? this.#open : (this.#lines[number - this.#forgotten] ?? "");
  }

  take(bytes: Uint8Array): string[] {
    const pieces = (this.#raw + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#raw = pieces.pop()!.slice(-lineMost);
    this.#open = plain(this.#raw);
    const lines = pieces.map((piece) => plain(piece.slice(-lineMost)));
    for (const line of lines) this.#lines.push(line);
    const over = this.#lines.length - keptLines;
    if (over > 0) {
      this.#lines.splice(0, over);
      this.#forgotten += over;
    }
    return lines;
  }
}

/** Where a search is in a console. */
interface Place {
  line: number;
  column: number;
}

interface Waiter {
  readonly pattern: RegExp;
  readonly places: Map<ConsoleName, Place>;
  readonly resolve: (match: RegExpExecArray) => void;
}

export class Console {
  readonly #consoles = new Map<ConsoleName, Lines>();
  /** All lines in the order that they came in. */
  readonly #all: ConsoleLine[] = [];
  #forgotten = 0;
  /** Up to where an expectation has been met. */
  readonly #met = new Map<ConsoleName, Place>();
  readonly #waiters = new Set<Waiter>();
  #news = deferred();
  #over: Error | undefined;
  readonly #ends: ((why: Error) => void)[] = [];
  #last: ConsoleName | undefined;

  constructor(
    /** Types into a console. */
    readonly write: (text: string, console?: ConsoleName) => Promise<void>,
  ) {}

  /** The lines so far, also those that have no end yet. */
  get text(): string {
    const open = [...this.#consoles.values()].map((lines) => lines.at(lines.count));
    return [...this.#all.map(({ text }) => text), ...open.filter((text) => text !== "")].join("\n");
  }

  /** The console of the last expectation that was met. */
  get last(): ConsoleName | undefined {
    return this.#last;
  }

  /** Lines from the start on, until the machine is over. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ConsoleLine, void, undefined> {
    for (let next = 0; ; ) {
      next = Math.max(next, this.#forgotten);
      for (; next < this.#forgotten + this.#all.length; next++) {
        const line = this.#all[next - this.#forgotten];
        if (line) yield line;
      }
      if (this.#over) return;
      await this.#news.promise;
    }
  }

  /** Waits for a line, or the beginning of one, behind those that were expected before. */
  async expect(pattern: RegExp | string, options: ExpectOptions): Promise<RegExpExecArray> {
    const timeoutMs = durationMs(options.timeout ?? presetTimeout);
    const found = deferred<RegExpExecArray>();
    const source = typeof pattern === "string" ? literally(pattern) : pattern.source;
    const flags = typeof pattern === "string" ? "" : pattern.flags;
    const names = options.console ? [options.console] : (["serial", "console"] as const);
    const places = names.map((name) => [name, { ...this.#place(name) }] as const);
    const waiter: Waiter = {
      ...{ pattern: new RegExp(source, flags), places: new Map(places) },
      resolve: found.resolve,
    };
    if (this.#look(waiter)) return found.promise;
    if (this.#over) throw this.#over;
    this.#waiters.add(waiter);
    this.#ends.push(found.reject);
    const late = () => found.reject(new ExpectError(pattern, timeoutMs, this.#lastLines()));
    const timer = setTimeout(late, timeoutMs);
    try {
      return await found.promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
      this.#ends.splice(this.#ends.indexOf(found.reject), 1);
    }
  }

  #lastLines(): string[] {
    return this.text.split("\n").slice(-shownLines);
  }

  #place(name: ConsoleName): Place {
    const place = this.#met.get(name) ?? { line: 0, column: 0 };
    this.#met.set(name, place);
    return place;
  }

  /** Whether an expectation is met by what has come; it goes on from there the next time. */
  #look({ pattern, places, resolve }: Waiter): boolean {
    for (const [name, place] of places) {
      const lines = this.#consoles.get(name);
      if (!lines) continue;
      const met = this.#place(name);
      // another one was met meanwhile
      if (met.line > place.line || (met.line === place.line && met.column > place.column)) {
        Object.assign(place, met);
      }
      if (place.line < lines.first) Object.assign(place, { line: lines.first, column: 0 });
      for (; ; place.line++, place.column = 0) {
        const match = pattern.exec(lines.at(place.line).slice(place.column));
        if (match) {
          const column = place.column + match.index + match[0].length;
          this.#met.set(name, { line: place.line, column });
          this.#last = name;
          resolve(match);
          return true;
        }
        if (place.line >= lines.count) break;
      }
    }
    return false;
  }

  /** A console has said something. */
  take(name: string, bytes: Uint8Array): void {
    const console = name as ConsoleName;
    const lines = this.#consoles.get(console) ?? new Lines(console);
    this.#consoles.set(console, lines);
    for (const text of lines.take(bytes)) this.#all.push({ console, text });
    const over = this.#all.length - keptLines;
    if (over > 0) {
      this.#all.splice(0, over);
      this.#forgotten += over;
    }
    for (const waiter of [...this.#waiters]) if (this.#look(waiter)) this.#waiters.delete(waiter);
    this.#tell();
  }

  #tell(): void {
    const { resolve } = this.#news;
    this.#news = deferred();
    resolve();
  }

  /** Nothing comes any more. */
  close(why: Error): void {
    this.#over = why;
    for (const end of [...this.#ends]) end(why);
    this.#tell();
  }
}

const literally = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
