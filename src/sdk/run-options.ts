/** What `vm.run` takes. */
import type { Duration } from "./options.ts";

/** Gets a piece of output. */
export type Sink = (bytes: Uint8Array) => unknown;

type Piece = string | Uint8Array;
/** What a command reads: text, bytes, or pieces as they come (a file's stream, a child's stdout). */
export type Input = Piece | AsyncIterable<Piece> | Iterable<Piece>;

/** An `AbortSignal`, as far as it matters. */
export interface Abort {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

export interface RunOptions {
  /** Its standard input; empty if not given. */
  readonly stdin?: Input;
  readonly env?: Readonly<Record<string, string>>;
  /** The folder that it starts in; the user's home. */
  readonly cwd?: string;
  /** root, if not given. */
  readonly user?: string;
  /** From the call on, the guest's boot included; then the command is ended. */
  readonly timeout?: Duration;
  /** Ends the command. */
  readonly signal?: Abort;
  /** Output as bytes, not text. */
  readonly bytes?: boolean;
  /** Throw a CommandError if the status is not 0. */
  readonly check?: boolean;
  /** Gets the output as it comes, in place of the result; what it returns is waited for before more is read. */
  readonly onStdout?: Sink;
  readonly onStderr?: Sink;
}
