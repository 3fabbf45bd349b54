/** What a run makes of its consoles' lines: a file with times, the last lines, steps to wait for, words that end it. */
import { closeSync, openSync, writeSync } from "node:fs";
import { ConfigError } from "../../exit-codes.ts";
import type { ConsoleLog } from "../../machine/console/log.ts";
import type { Expectations } from "./expectations.ts";

const lastMost = 50;
/** A line as a person reads it: without escape sequences, and what a carriage return has taken back. */
export const plainLine = (line: string): string =>
  Bun.stripANSI(line)
    .replace(/^[^\n]*\r(?=.)/, "")
    .replaceAll(/[^\t\x20-\x7e\x80-\uffff]/g, "");

export interface ConsoleReaders {
  readonly log: number | undefined;
  /** Where lines are shown while they come. */
  readonly show: (line: string) => void;
  readonly expectations: Expectations;
  /** A whole line of a console. */
  readonly line: (line: string) => void;
}

/** Opens `--console-log`. Throws ConfigError. */
export function openConsoleLog(path: string): number {
  try {
    return openSync(path, "w", 0o644);
  } catch (error) {
    const { code } = error as { code?: string };
    const why = `${code}; name a file that this user may write`;
    throw new ConfigError(`--console-log ${path}: ${why}`, "--console-log");
  }
}

export class ConsoleText {
  readonly last: string[] = [];
  /** Why lines are missing in the file; it is told at the end. */
  problem: string | undefined;
  readonly #leave: (() => void)[] = [];
  /** Of each console, the line that has not ended. */
  readonly #open = new Map<string, string>();

  constructor(readonly readers: ConsoleReaders) {}

  follow(logs: readonly ConsoleLog[]): void {
    for (const log of logs) {
      this.#leave.push(log.followLines((line, ended) => this.#heard(log.name, line, ended)));
    }
  }

  #heard(console: string, raw: string, ended: boolean): void {
    const line = plainLine(raw);
    this.readers.expectations.heard(console, line, ended);
    if (!ended) {
      this.#open.set(console, line);
      return;
    }
    this.#open.delete(console);
    this.#write(console, line);
    if (line.trim() !== "") this.readers.line(line);
  }

  #write(console: string, line: string): void {
    this.readers.show(line);
    if (line.trim() !== "") {
      this.last.push(line);
      if (this.last.length > lastMost) this.last.shift();
    }
    this.#log(console, line);
  }

  /** chv's own word, among the lines of the console log. */
  note(text: string): void {
    this.#log("chv", text);
  }

  #log(who: string, line: string): void {
    const { log } = this.readers;
    if (log === undefined || this.problem !== undefined) return;
    const seconds = (performance.now() / 1000).toFixed(6).padStart(12);
    const bytes = Buffer.from(`[${seconds}] ${who}: ${line}\n`);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(log, bytes, done);
    } catch (error) {
      this.problem = `${(error as { code?: string }).code}; lines are lost`;
    }
  }

  /** Lines without an end are told as they are. */
  close(): void {
    for (const leave of this.#leave.splice(0)) leave();
    for (const [console, line] of this.#open) this.#write(console, line);
    this.#open.clear();
    if (this.readers.log !== undefined) closeSync(this.readers.log);
  }
}
