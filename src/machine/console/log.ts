/**
 * What a console has said, as the main thread keeps it: the last MiB of bytes, those who follow, and its lines. It
 * reads the ring between the device and its worker, which keeps its bytes until others come over them; what was written
 * faster than anybody looked is counted as lost.
 */
import { ByteRing } from "../../bus/byte-ring.ts";
import type { ConsoleSpec } from "./spec.ts";

const keptBytes = 2 ** 20;
/** A longer line is looked at in pieces. */
export const lineBytesMax = 4096;

/** Told each line: also the last one while it has no end yet, which is how a prompt looks. */
export type LineReader = (line: string, ended: boolean) => void;

export class ConsoleLog {
  readonly name: string;
  readonly #ring: ByteRing;
  #kept = new Uint8Array(0);
  /** The ring's position up to which everything was taken. */
  #position = 0;
  /** How many of the kept bytes are of this life of the guest. */
  #life = 0;
  #line = "";
  readonly #decoder = new TextDecoder();
  readonly #followers = new Set<(bytes: Uint8Array) => void>();
  readonly #lineReaders = new Set<LineReader>();

  constructor(spec: ConsoleSpec) {
    this.name = spec.name;
    this.#ring = new ByteRing(spec.output);
  }

  /** Takes what is new; whether that was anything. */
  poll(): boolean {
    const { bytes, position, lost } = this.#ring.since(this.#position);
    if (position === this.#position) return false;
    this.#position = position;
    if (lost > 0) this.#take(new TextEncoder().encode(`\r\n[${lost} bytes lost]\r\n`));
    this.#take(bytes);
    return true;
  }

  #take(bytes: Uint8Array): void {
    const whole = new Uint8Array(Math.min(keptBytes, this.#kept.length + bytes.length));
    const old = whole.length - Math.min(bytes.length, whole.length);
    whole.set(this.#kept.subarray(this.#kept.length - old));
    whole.set(bytes.subarray(Math.max(0, bytes.length - whole.length)), old);
    this.#kept = whole;
    this.#life = Math.min(whole.length, this.#life + bytes.length);
    for (const follower of [...this.#followers]) follower(bytes);
    if (this.#lineReaders.size > 0) this.#split(this.#decoder.decode(bytes, { stream: true }));
  }

  #split(text: string): void {
    const pieces = (this.#line + text).split("\n");
    this.#line = pieces.pop()!.slice(-lineBytesMax);
    for (const piece of pieces) this.#tellLine(piece, true);
    if (this.#line !== "") this.#tellLine(this.#line, false);
  }

  #tellLine(text: string, ended: boolean): void {
    const line = text.slice(-lineBytesMax).replace(/\r+$/, "");
    for (const reader of [...this.#lineReaders]) reader(line, ended);
  }

  /** The bytes that are kept. */
  get recent(): Uint8Array {
    return this.#kept;
  }

  /** Calls with what is kept, then with what comes, until the returned function is called. */
  follow(follower: (bytes: Uint8Array) => void): () => void {
    if (this.#kept.length > 0) follower(this.#kept);
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  /** The same with what is kept of this life of the guest. */
  followLife(follower: (bytes: Uint8Array) => void): () => void {
    if (this.#life > 0) follower(this.#kept.subarray(this.#kept.length - this.#life));
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  /** The guest starts over: what it said before is kept, and is not what anybody waits for. */
  beginLife(): void {
    this.poll();
    this.#life = 0;
    this.#line = "";
  }

  /** Calls for each line of this life that is kept, then for each that comes, until the returned function is called. */
  followLines(reader: LineReader): () => void {
    const life = this.#kept.subarray(this.#kept.length - this.#life);
    const lines = new TextDecoder().decode(life).split("\n");
    const last = lines.pop()!;
    for (const line of lines) reader(line.slice(-lineBytesMax).replace(/\r+$/, ""), true);
    if (last !== "") reader(last.slice(-lineBytesMax), false);
    if (this.#lineReaders.size === 0) this.#line = last;
    this.#lineReaders.add(reader);
    return () => this.#lineReaders.delete(reader);
  }
}
