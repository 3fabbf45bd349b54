/**
 * The machine's events as NDJSON, for `--event-monitor`: one object a line,
 * `{"timestamp":{"secs":0,"nanos":12000000},"wall_ms":1795347501623,"source":"vm","event":"booting","properties":{…}}`.
 * Times count from the start of the process. What cannot be written is dropped: a reader that is slow or gone does not
 * hold up the machine.
 */

import { ConfigError } from "../exit-codes.ts";
import { Epoll } from "../ffi/epoll.ts";
import { Open, open, statusFlags, writeAll } from "../ffi/file.ts";
import { SystemError } from "../ffi/libc.ts";
import { pollEvents } from "../ffi/poll.ts";
import type { VmmEvent } from "./vmm/events.ts";

/** O_ACCMODE of fcntl(2). */
const accessMode = 3;

export class EventMonitor {
  #open = true;

  /** Writes to an open descriptor. */
  constructor(readonly fd: number) {}

  /** Throws ConfigError when the file, or the descriptor, cannot be written. */
  static to(target: { path?: string | undefined; fd?: number | undefined }): EventMonitor {
    if (target.fd !== undefined) return EventMonitor.#inherited(target.fd);
    const path = target.path!;
    try {
      // a named pipe must have its reader: waiting for one would hold up the start
      const flags = Open.writeOnly | Open.create | Open.append | Open.nonBlock;
      const fd = open(path, flags | Open.noControllingTerminal, 0o644);
      return new EventMonitor(fd);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const fix = "name a file that this user may write";
      throw new ConfigError(`--event-monitor ${path}: ${error.reason}; ${fix}`, "--event-monitor");
    }
  }

  static #inherited(fd: number): EventMonitor {
    const flags = statusFlags(fd);
    if (flags >= 0 && (flags & accessMode) !== Open.readOnly) return new EventMonitor(fd);
    const why = "not open for writing; pass one that is, as in 9>events";
    throw new ConfigError(`--event-monitor fd=${fd}: ${why}`, "--event-monitor");
  }

  /** One event, as a line. */
  write(told: VmmEvent): void {
    // a line is far shorter than the room that a pipe has when it is said to have some
    if (!this.#open || (pollEvents(this.fd, Epoll.out) & Epoll.out) === 0) return;
    this.#open = writeAll(this.fd, new TextEncoder().encode(eventLine(told)));
  }
}

/** An event as one line of NDJSON, with its newline. */
export function eventLine({ timestamp, wall_ms, source, event, properties }: VmmEvent): string {
  return `${JSON.stringify({ timestamp, wall_ms, source, event, properties })}\n`;
}
