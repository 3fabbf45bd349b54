/**
 * The log of the process: lines on stderr or in a file, never on stdout, which is the guest's. Text
 * lines are those that Cloud Hypervisor's drivers scan; `json` says the same, one object a line.
 *
 *     chv: 0.412003s: vcpu0 WARN:src/machine/vcpu.ts:88 -- text
 *     {"seconds":0.412003,"thread":"vcpu0","level":"warn","file":"src/…","line":88,"text":"text"}
 *
 * The main thread alone writes. A worker's line comes to it as an event and is given to
 * `writeRecord` with the worker's own thread name and time. Seconds count from the start of the
 * process.
 */
import { callSite } from "./bus/call-site.ts";
import { LogLevel } from "./bus/events.ts";
import { ConfigError } from "./exit-codes.ts";
import { Errno, errnoName } from "./ffi/errno.ts";
import { close, Open, open, writeAll, writeSome } from "./ffi/file.ts";

export type Level = (typeof LogLevel)[keyof typeof LogLevel];
export type LogFormat = "text" | "json";

/** What a line says; `line` is 0 where there is none. */
export interface LogRecord {
  readonly level: Level;
  readonly thread: string;
  /** Since the start of the process. */
  readonly seconds: number;
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

/** As the drivers scan for them, by level. */
const spelled = ["ERRO", "WARN", "INFO", "DEBG", "TRCE"] as const;
const names = ["error", "warn", "info", "debug", "trace"] as const;

const stderrFd = 2;

/** Where lines go and which. One for the process; a test makes its own. */
export class Logger {
  #level: Level = LogLevel.warn;
  #format: LogFormat = "text";
  #fd = stderrFd;
  /** Lines that a full pipe did not take. */
  #lost = 0;
  /** The sink's error was reported. */
  #failed = false;

  /** Errors are always logged; `trace` logs everything. */
  setLevel(level: Level): void {
    this.#level = level;
  }

  setFormat(format: LogFormat): void {
    this.#format = format;
  }

  /** Lines go to the end of a file from now on. Opening one that cannot be is a ConfigError. */
  openFile(path: string): void {
    let fd: number;
    try {
      // Without O_NONBLOCK a named pipe that nobody reads would hold up the start for ever.
      fd = open(path, Open.writeOnly | Open.create | Open.append | Open.nonBlock, 0o640);
    } catch (error) {
      const { code } = error as { code?: string };
      const why = `cannot open ${JSON.stringify(path)}: ${code}`;
      throw new ConfigError(
        `--log-file: ${why}; name a file that this user may write`,
        "--log-file",
      );
    }
    this.close();
    this.#fd = fd;
  }

  /** Back to stderr. */
  close(): void {
    if (this.#fd !== stderrFd) close(this.#fd);
    this.#fd = stderrFd;
    this.#failed = false;
  }

  /** Whether a line of this level would be written: to be asked before a costly text is made. */
  enabled(level: Level): boolean {
    return level <= this.#level;
  }

  // No `return` before #log in these: a tail call would take the caller's frame off the stack.
  error(text: string): void {
    this.#log(LogLevel.error, text);
  }
  warn(text: string): void {
    if (this.#level >= LogLevel.warn) this.#log(LogLevel.warn, text);
  }
  info(text: string): void {
    if (this.#level >= LogLevel.info) this.#log(LogLevel.info, text);
  }
  debug(text: string): void {
    if (this.#level >= LogLevel.debug) this.#log(LogLevel.debug, text);
  }
  trace(text: string): void {
    if (this.#level >= LogLevel.trace) this.#log(LogLevel.trace, text);
  }

  /** A line of another thread, or of another time. Dropped when its level is off. */
  writeRecord(record: LogRecord): void {
    if (record.level > this.#level) return;
    if (this.#lost > 0) {
      const text = `${this.#lost} log lines were lost: the reader was too slow`;
      if (!this.#write({ ...record, level: LogLevel.warn, text })) {
        this.#lost++;
        return;
      }
      this.#lost = 0;
    }
    if (!this.#write(record)) this.#lost++;
  }

  #log(level: Level, text: string): void {
    const { file, line } = callSite(new Error().stack ?? "", 3);
    const seconds = performance.now() / 1000;
    this.writeRecord({ level, thread: "main", seconds, file, line, text });
  }

  /** False when the reader is behind and the line was not taken. */
  #write(record: LogRecord): boolean {
    const data = Buffer.from(`${formatRecord(record, this.#format)}\n`);
    let done = 0;
    while (done < data.length) {
      const count = writeSome(this.#fd, data.subarray(done), data.length - done);
      if (count >= 0) done += count;
      else if (-count === Errno.EAGAIN) return done > 0;
      else if (-count !== Errno.EINTR) {
        this.#sinkFailed(errnoName(-count));
        break;
      }
    }
    return true;
  }

  /** A log that cannot be written must not end the machine: said once, where it still can be. */
  #sinkFailed(code: string): void {
    if (this.#failed || this.#fd === stderrFd) return;
    this.#failed = true;
    writeAll(stderrFd, Buffer.from(`chv: --log-file: write failed: ${code}; lines are lost\n`));
  }
}

/**
 * One line, without its newline. Control characters in the text are shown as \xNN: it may come from
 * a guest.
 */
export function formatRecord(record: LogRecord, format: LogFormat): string {
  const { level, thread, seconds, file, line, text } = record;
  const time = seconds.toFixed(6);
  if (format === "json") {
    const fields = { seconds: Number(time), thread, level: names[level], file, line, text };
    return JSON.stringify(fields);
  }
  return `chv: ${time}s: ${thread} ${spelled[level]}:${file}:${line} -- ${printable(text)}`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is its purpose
const control = /[\u0000-\u001f\u007f-\u009f]/g;

/** Text that a terminal does nothing with but show it. */
export const printable = (text: string): string =>
  text.replace(control, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);

/** The level that so many `-v` ask for: none warnings, three and more everything. */
export function levelOf(verbosity: number): Level {
  return Math.min(LogLevel.warn + verbosity, LogLevel.trace) as Level;
}

export const log = new Logger();
