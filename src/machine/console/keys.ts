/**
 * What a person types, on its way to the guest, without what is meant for chv: the escape key is Ctrl-A; then x quits,
 * and Ctrl-A sends one. Keys that the guest does not take wait here; when that is full, further ones are lost.
 */
import type { InputSink } from "../../bus/character.ts";
import { Block } from "../../ffi/block.ts";
import { copyBetween } from "../../ffi/memory.ts";

const roomBytes = 4096;
const escapeKey = 0x01;
const quitKey = 0x78;

export class Keys {
  /** Where the terminal is read into. */
  readonly chunk = new Block(roomBytes);
  readonly #kept = new Block(roomBytes);
  #start = 0;
  #end = 0;
  #escaped = false;

  constructor(readonly quit: () => void) {}

  /** How much to read at a time: what there is room for, a key being two bytes at worst, and always one. */
  get mostToRead(): number {
    return Math.max(1, (roomBytes - this.#end) >> 1);
  }

  /** Keys wait for the guest. */
  get waiting(): boolean {
    return this.#start < this.#end;
  }

  /** The chunk's first `count` bytes were typed. */
  take(count: number): void {
    for (let i = 0; i < count; i++) this.#key(this.chunk.bytes[i]!);
  }

  /** Gives the device what it has room for; whether that was anything. */
  deliver(sink: InputSink): boolean {
    let delivered = false;
    while (this.waiting) {
      const count = Math.min(sink.look(), this.#end - this.#start);
      if (count === 0) break;
      copyBetween(sink.address, this.#kept.address + this.#start, count);
      sink.produced(count);
      this.#start += count;
      delivered = true;
    }
    this.#kept.bytes.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    return delivered;
  }

  #key(byte: number): void {
    if (this.#escaped) {
      this.#escaped = false;
      if (byte === quitKey) {
        this.quit();
        return;
      }
      if (byte !== escapeKey) this.#keep(escapeKey);
      this.#keep(byte);
    } else if (byte === escapeKey) {
      this.#escaped = true;
    } else {
      this.#keep(byte);
    }
  }

  #keep(byte: number): void {
    if (this.#end < roomBytes) this.#kept.bytes[this.#end++] = byte;
  }
}
