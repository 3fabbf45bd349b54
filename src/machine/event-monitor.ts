/**
 * The machine's events as NDJSON, for `--event-monitor`: one object a line,
 * `{"timestamp":{"secs":0,"nanos":12000000},"source":"vm","event":"booting","properties":{…}}`. Times count from the
 * start of the process. What cannot be written is dropped: a reader that is slow or gone does not hold up the machine.
 */

import { ConfigError } from "../exit-codes.ts";
import { Epoll } from "../ffi/epoll.ts";
import { Open, open, writeAll } from "../ffi/file.ts";
import { SystemError } from "../ffi/libc.ts";
import { pollEvents } from "../ffi/poll.ts";

export class EventMonitor {
  #open = true;

  /** Writes to an open descriptor. `startNs`: when the process started, on the monotonic clock. */
  constructor(
    readonly fd: number,
    readonly startNs: number,
  ) {}

  /** Throws ConfigError when the file cannot be written. */
  static to(target: { path?: string | undefined; fd?: number | undefined }, startNs: number) {
    if (target.fd !== undefined) return new EventMonitor(target.fd, startNs);
    const path = target.path!;
    try {
      // a named pipe must have its reader: waiting for one would hold up the start
      const flags = Open.writeOnly | Open.create | Open.append | Open.nonBlock;
      const fd = open(path, flags | Open.noControllingTerminal, 0o644);
      return new EventMonitor(fd, startNs);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const fix = "name a file that this user may write";
      throw new ConfigError(`--event-monitor ${path}: ${error.reason}; ${fix}`, "--event-monitor");
    }
  }

  /** One event; `timeNs` on the monotonic clock. */
  write(source: string, event: string, timeNs: number, properties?: object): void {
    // a line is far shorter than the room that a pipe has when it is said to have some
    if (!this.#open || (pollEvents(this.fd, Epoll.out) & Epoll.out) === 0) return;
    const ns = Math.max(0, timeNs - this.startNs);
    const timestamp = { secs: Math.floor(ns / 1e9), nanos: Math.floor(ns % 1e9) };
    const line = { timestamp, source, event, properties: properties ?? null };
    this.#open = writeAll(this.fd, new TextEncoder().encode(`${JSON.stringify(line)}\n`));
  }
}
