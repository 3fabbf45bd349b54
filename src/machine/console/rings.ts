/** The rings of character devices, as their far ends use them. */
import { ByteRing } from "../../bus/byte-ring.ts";
import type { InputSink, OutputSource } from "../../bus/character.ts";
import { sharedAddress } from "../../ffi/block.ts";
import { copyBetween } from "../../ffi/memory.ts";

/** Output that a device on the bus (the serial port) puts into a ring. */
export class RingOutput implements OutputSource {
  readonly #ring: ByteRing;
  readonly #base: number;

  constructor(buffer: SharedArrayBuffer) {
    this.#ring = new ByteRing(buffer);
    this.#base = sharedAddress(buffer) + ByteRing.dataOffset;
  }

  look(): number {
    return this.#ring.contiguous;
  }
  get address(): number {
    return this.#base + this.#ring.readAt;
  }
  consume(count: number): void {
    this.#ring.consume(count);
  }
  sleep(): boolean {
    return this.#ring.sleep();
  }
}

/** Input that such a device takes from a ring. */
export class RingInput implements InputSink {
  readonly #ring: ByteRing;
  readonly #base: number;

  constructor(buffer: SharedArrayBuffer) {
    this.#ring = new ByteRing(buffer);
    this.#base = sharedAddress(buffer) + ByteRing.dataOffset;
  }

  look(): number {
    return this.#ring.room;
  }
  get address(): number {
    return this.#base + this.#ring.writeAt;
  }
  produced(count: number): void {
    this.#ring.produce(count);
  }
  /** The device takes bytes without a word. */
  sleep(): boolean {
    return false;
  }
}

/** Output from elsewhere, of which the last bytes are also left in a ring, for those who ask what was said. */
export class RecentOutput implements OutputSource {
  readonly #ring: ByteRing;
  readonly #base: number;

  constructor(
    readonly source: OutputSource,
    buffer: SharedArrayBuffer,
  ) {
    this.#ring = new ByteRing(buffer);
    this.#base = sharedAddress(buffer) + ByteRing.dataOffset;
  }

  look(): number {
    return this.source.look();
  }
  get address(): number {
    return this.source.address;
  }
  consume(count: number): void {
    const ring = this.#ring;
    let left = Math.min(count, ring.size);
    while (left > 0) {
      const length = Math.min(left, ring.room);
      copyBetween(this.#base + ring.writeAt, this.address + count - left, length);
      ring.produce(length);
      ring.consume(length);
      left -= length;
    }
    this.source.consume(count);
  }
  sleep(): boolean {
    return this.source.sleep();
  }
}
