/** What an operation of the API is: a row of the table, from which its route, its command and its document are made. */
import type * as v from "valibot";
import type { ObjectSchema } from "../machine/config/shape.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";
import type { Dialect } from "./dialect.ts";
import type { Descriptors } from "./socket-server.ts";

/** What an operation works on. */
export interface Context {
  readonly vmm: Vmm;
  /** Descriptors that came with the request. */
  readonly fds: Descriptors;
  /** Aborted when the client goes. */
  readonly signal: AbortSignal;
  readonly query: URLSearchParams;
  readonly dialect: Dialect;
  readonly accept: string;
}

export interface Operation {
  readonly method: "get" | "put";
  readonly summary: string;
  /** The body; without it none is taken. */
  readonly body?: ObjectSchema;
  /** The body comes in spellings of several generations. */
  readonly dialects?: boolean;
  /** The status of success where it is not 204, or 200 with what `run` gives. */
  readonly emptyStatus?: number;
  /** Its query parameters and what they mean. */
  readonly query?: Readonly<Record<string, string>>;
  /** What it answers, for the documents; and the type of that where it is not JSON. */
  readonly reply?: v.GenericSchema;
  readonly type?: string;
  readonly run: (context: Context, body: never) => unknown;
}

/** Ties a body's schema to the function that takes it. */
export function operation<S extends ObjectSchema>(
  of: Omit<Operation, "run" | "body"> & {
    readonly body?: S;
    readonly run: (context: Context, body: v.InferOutput<S>) => unknown;
  },
): Operation {
  return of as Operation;
}
