/** Hands a command its input, at the guest's pace. */
import type { Writable } from "node:stream";
import type { Input } from "./run-options.ts";

export interface Feed {
  /** Bytes that are on their way. */
  readonly bytes: number;
  /** All of it is, or it was stopped; rejects with what the source throws. */
  readonly ended: Promise<void>;
  /** The command reads no more. */
  readonly stop: () => void;
}

const pieceBytes = 64 * 1024;

/** Begins at once. */
export function feed(input: Input | undefined, to: Writable): Feed {
  let stopped = false;
  let bytes = 0;
  let stop = () => {};
  const stopping = new Promise<void>((resolve) => {
    stop = () => {
      stopped = true;
      resolve();
    };
  });
  const room = () => new Promise<void>((resolve) => void to.once("drain", resolve));
  const give = async (piece: string | Uint8Array): Promise<void> => {
    const data = typeof piece === "string" ? new TextEncoder().encode(piece) : piece;
    for (let at = 0; at < data.length && !stopped; at += pieceBytes) {
      const part = data.subarray(at, at + pieceBytes);
      bytes += part.length;
      if (!to.write(part)) await Promise.race([room(), stopping]);
    }
  };
  const run = async (): Promise<void> => {
    if (input === undefined) return;
    if (typeof input === "string" || input instanceof Uint8Array) return give(input);
    for await (const piece of input) {
      if (stopped) return;
      await give(piece);
    }
  };
  return {
    get bytes() {
      return bytes;
    },
    ended: Promise.race([run(), stopping]),
    stop,
  };
}
