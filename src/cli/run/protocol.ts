/**
 * What `chv run --control` and the program that started it (src/sdk) say to each other: one JSON object a line, both
 * ways. The bytes of a command's input and output are not in it: they go by descriptors of their own.
 */
import type { VmmEvent } from "../../machine/vmm/events.ts";
import type { Job } from "./session.ts";
import type { Reason } from "./verdict.ts";

/** A command, without what `chv run` decides itself. */
export type Asked = Omit<Job, "sync" | "more">;

/** The program's. `id` is its own number for a command or a call. */
export type Request =
  /** An operation of the API. */
  | {
      readonly id: number;
      readonly call: string;
      readonly method: "GET" | "PUT";
      readonly body?: unknown;
    }
  /** Nobody waits for the call any more. */
  | { readonly id: number; readonly abort: true }
  /** Run a command; chv has said that it is ready for one. */
  | { readonly id: number; readonly run: Asked }
  /** For the command's process group; one that has not started gets it when it has. */
  | { readonly id: number; readonly signal: number }
  /** The command's input is so many bytes; said once for each, after its end at the latest. */
  | { readonly id: number; readonly input: number }
  /** End the machine, in order where something outlives it. The end of the connection ends it at once. */
  | { readonly end: true };

/** How a run ends. */
export interface Over {
  readonly reason: Reason;
  readonly status: number;
  readonly message: string | null;
}

/** chv's. */
export type Told =
  /** The machine runs. */
  | { readonly hello: { readonly version: string; readonly pid: number } }
  | { readonly event: VmmEvent }
  /** What a console has said, base64; or how many bytes of it nobody took. */
  | { readonly console: string; readonly data: string }
  | { readonly console: string; readonly lost: number }
  | { readonly id: number; readonly status: number; readonly body: string }
  /** The runner takes a command. `outputs`: all bytes that ever went out on both descriptors, after one was lost. */
  | { readonly ready: true; readonly outputs?: number }
  /** The runner will not come: why. */
  | { readonly absent: string }
  | { readonly id: number; readonly started: true }
  /** Its status, as shells count; `output` and `error`: the bytes that it put out. */
  | {
      readonly id: number;
      readonly ended: number;
      readonly signal: number | null;
      readonly output: number;
      readonly error: number;
    }
  /** It did not come to an end: why. */
  | { readonly id: number; readonly lost: string }
  /** The last line. */
  | { readonly over: Over };
