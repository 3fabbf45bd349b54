/** Far ends of character devices as plain data, as every thread is told of them. */
import type { TerminalSizeSpec } from "./size.ts";
import type { TypedSpec } from "./typed.ts";

/** A character device's far end, opened by the main thread. */
export interface FarEndSpec {
  readonly name: string;
  readonly mode: "null" | "tty" | "file" | "pty" | "socket";
  /** Written to; -1 when there is nowhere (null) or not yet (socket). */
  readonly outFd: number;
  /** `outFd` could not be made non-blocking: it is asked before each write. */
  readonly outBlocks: boolean;
  /** What it is, where writing depends on that. */
  readonly outKind?: "socket" | "pipe" | undefined;
  /** Read from; -1 when nothing can come. */
  readonly inFd: number;
  /** A listening unix socket; -1 otherwise. */
  readonly listenFd: number;
  /** The escape key is live: input is a person's terminal. */
  readonly escapeKeys: boolean;
  /** It is there until its input ends. */
  readonly leavesAtEnd?: boolean | undefined;
  /** What the API types. */
  readonly typed?: TypedSpec | undefined;
  /** The size of the terminal that it is. */
  readonly size?: TerminalSizeSpec | undefined;
}

/** A far end that shows what a guest's kernel says. */
export interface ConsoleSpec extends FarEndSpec {
  /** A ring of what was put out last; the serial port's output goes through it. */
  readonly output: SharedArrayBuffer;
}

/** The serial port's far end, and the rings between the two. */
export interface SerialSpec extends ConsoleSpec {
  readonly input: SharedArrayBuffer;
}
