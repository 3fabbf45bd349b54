/**
 * What the API types into a console: a ring from the main thread to the console's worker, which gives it to the device
 * before what comes from the far end.
 */

import { ByteRing } from "../../bus/byte-ring.ts";
import type { InputSink } from "../../bus/character.ts";
import { sharedAddress } from "../../ffi/block.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../ffi/eventfd.ts";
import { copyBetween } from "../../ffi/memory.ts";
import type { Owned } from "../owned.ts";

export interface TypedSpec {
  readonly ring: SharedArrayBuffer;
  /** eventfd: something was typed. */
  readonly fd: number;
}

const ringBytes = 4096;

export function createTyped(owned: Owned): TypedSpec {
  const ring = new SharedArrayBuffer(ByteRing.bytesFor(ringBytes));
  return { ring, fd: owned.fd(createEventfd()) };
}

/** Types as much as there is room for: how many bytes. For the main thread. */
export function typeBytes(spec: TypedSpec, bytes: Uint8Array): number {
  const ring = new ByteRing(spec.ring);
  let count = 0;
  while (count < bytes.length && ring.push(bytes[count]!)) count++;
  signalEventfd(spec.fd);
  return count;
}

/** The worker's side. */
export class TypedInput {
  readonly #ring: ByteRing;
  readonly #address: number;

  constructor(readonly spec: TypedSpec) {
    this.#ring = new ByteRing(spec.ring);
    this.#address = sharedAddress(spec.ring) + ByteRing.dataOffset;
  }

  /** Something waits for the guest. */
  get waiting(): boolean {
    return this.#ring.length > 0;
  }

  heard(): void {
    drainEventfd(this.spec.fd);
  }

  /** Gives the device what it has room for; whether that was anything. */
  deliver(sink: InputSink): boolean {
    let delivered = false;
    for (;;) {
      const waiting = this.#ring.contiguous;
      const count = waiting === 0 ? 0 : Math.min(sink.look(), waiting);
      if (count === 0) return delivered;
      copyBetween(sink.address, this.#address + this.#ring.readAt, count);
      this.#ring.consume(count);
      sink.produced(count);
      delivered = true;
    }
  }
}
