/** What can go wrong in a script that drives a machine. */
import type { Reason } from "../cli/run/verdict.ts";

export type { Reason };

/** How a machine has ended. */
export interface Exit {
  /** As in `chv run --result`: "poweroff", "quit", "panic", "timeout", "configuration", … */
  readonly reason: Reason;
  /** Exit status of chv's process: docs/exit-codes.md. */
  readonly status: number;
  /** One line; null where there is nothing to say. */
  readonly message: string | null;
}

/** There is no chv to start. */
export class BinaryError extends Error {
  override readonly name = "BinaryError";
}

/** Ends that chv has no line for. */
const ends: { readonly [R in Reason]?: string } = {
  poweroff: "the guest has powered itself off",
  quit: "the machine was told to end",
};

/** The machine did not start, or ended while something was asked of it. */
export class MachineError extends Error implements Exit {
  override readonly name: string = "MachineError";
  readonly reason: Reason;
  readonly status: number;
  constructor(
    exit: Exit,
    /** What chv itself wrote: the last lines. */
    readonly log: string,
  ) {
    const { reason, status, message } = exit;
    const why = message ?? ends[reason] ?? "the machine has ended";
    super(`${why} (${reason}, exit status ${status})`);
    this.reason = reason;
    this.status = status;
  }
}

/** `expect` did not come in time. */
export class ExpectError extends Error {
  override readonly name = "ExpectError";
  constructor(
    readonly pattern: RegExp | string,
    timeoutMs: number,
    /** The last lines of the consoles. */
    readonly lines: readonly string[],
  ) {
    const last = lines.map((line) => `\n  ${line}`).join("");
    super(`${pattern} did not come in ${timeoutMs} ms; the consoles' last lines:${last}`);
  }
}

/** What a command has put out, and how it ended. */
export interface RunResult<Output = string> {
  readonly stdout: Output;
  readonly stderr: Output;
  /** Its exit status; 128 + N when signal N ended it. */
  readonly status: number;
  /** The signal that ended it; null when it ended by itself. */
  readonly signal: number | null;
}

/** A command took too long, could not come to its end in the guest, or (with `check`) failed. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  constructor(
    message: string,
    readonly command: string | readonly string[],
    readonly reason: "timeout" | "guest-gone" | "boot" | "status",
    /** What it had put out; with reason "status" its end, too. */
    readonly result: Partial<RunResult<string | Uint8Array>>,
  ) {
    super(`${shown(command)}: ${message}`);
  }
}

const shown = (command: string | readonly string[]): string =>
  typeof command === "string" ? command : command.join(" ");

/** An operation of the API was refused: its HTTP status and messages, outermost first. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  constructor(
    readonly status: number,
    readonly messages: readonly string[],
  ) {
    super(messages.join(": "));
  }
}
