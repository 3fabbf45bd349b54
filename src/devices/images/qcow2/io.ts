/**
 * The ring, and who has what in flight. Room that is given back must not be used anew while a request that began before
 * may still read or write it: `turnOver` begins a new generation, and `drained` says when the last is at its end.
 */
import type { RequestRing } from "../../../ffi/io-uring.ts";

/** Words of the state. */
const [queued, generation, firstCount] = [0, 1, 2];

export class Io {
  private readonly state = new Uint32Array(4);
  /** By token: the generation in which it was queued. */
  private readonly generations: Uint8Array;

  constructor(
    readonly ring: RequestRing,
    tokens: number,
  ) {
    this.generations = new Uint8Array(tokens);
  }

  read(fd: number, address: number, length: number, offset: number, token: number): void {
    this.begin(token);
    this.ring.read(fd, address, length, offset, token);
  }
  write(
    fd: number,
    address: number,
    length: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    this.begin(token);
    this.ring.write(fd, address, length, offset, flags, token);
  }
  readv(fd: number, iovecs: number, count: number, offset: number, token: number): void {
    this.begin(token);
    this.ring.readv(fd, iovecs, count, offset, token);
  }
  writev(
    fd: number,
    iovecs: number,
    count: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    this.begin(token);
    this.ring.writev(fd, iovecs, count, offset, flags, token);
  }
  dataSync(fd: number, token: number): void {
    this.begin(token);
    this.ring.dataSync(fd, token);
  }
  allocate(fd: number, mode: number, offset: number, length: number, token: number): void {
    this.begin(token);
    this.ring.allocate(fd, mode, offset, length, token);
  }

  /** Requests that were queued since the last `submit`. */
  get queued(): number {
    return this.state[queued]!;
  }

  submit(): void {
    this.state[queued] = 0;
    this.ring.submit();
  }

  /** What was queued with the token has ended. */
  ended(token: number): void {
    this.state[firstCount + this.generations[token]!]!--;
  }

  /** Begins a new generation. Only when the one before the last is `drained`. */
  turnOver(): void {
    this.state[generation]! ^= 1;
  }

  /** Nothing of the generation before is in flight. */
  get drained(): boolean {
    return this.state[firstCount + (this.state[generation]! ^ 1)] === 0;
  }

  private begin(token: number): void {
    const now = this.state[generation]!;
    this.generations[token] = now;
    this.state[firstCount + now]!++;
    this.state[queued]!++;
  }
}
