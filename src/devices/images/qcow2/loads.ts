/** Loads slices of L2 tables, several at a time. */
import { Errno } from "../../../ffi/libc.ts";
import type { Io } from "./io.ts";
import type { Layer } from "./layer.ts";
import { List, loadChannels } from "./lists.ts";
import type { Waits } from "./waits.ts";

const maxTries = 100;

export class Loads {
  /** By channel: the layer, or -1 when the channel is free, and the slice. */
  private readonly layerOf = new Int32Array(loadChannels).fill(-1);
  private readonly sliceOf = new Int32Array(loadChannels);
  private readonly tries = new Uint32Array(loadChannels);
  /** Bytes that are there. */
  private readonly done = new Uint32Array(loadChannels);

  /** Channels have the ring's tokens from `firstToken` on. */
  constructor(
    readonly layers: readonly Layer[],
    readonly io: Io,
    readonly waits: Waits,
    readonly firstToken: number,
  ) {}

  /**
   * A task waits until the slice with the entry for an offset of the disk is there: 0. An errno when it cannot be;
   * minus one when the cache has no room for it but by a commit.
   */
  wait(number: number, offset: number, task: number): number {
    const layer = this.layers[number]!;
    const cache = layer.cache!;
    const tag = layer.tagOf(offset);
    const known = cache.find(tag);
    if (known >= 0) {
      this.waits.park(List.loads + cache.notes[known]!, task);
      return 0;
    }
    const host = layer.hostOf(tag);
    if (host <= 0) return Errno.EIO;
    const channel = this.layerOf.indexOf(-1);
    if (channel < 0) {
      this.waits.park(List.loadRoom, task);
      return 0;
    }
    const slice = cache.claim(tag);
    if (slice < 0) {
      if (cache.dirtyCount > 0) return -1;
      this.waits.park(List.loadRoom, task); // all are being loaded
      return 0;
    }
    cache.notes[slice] = channel;
    this.layerOf[channel] = number;
    this.sliceOf[channel] = slice;
    this.tries[channel] = 0;
    this.done[channel] = 0;
    this.waits.park(List.loads + channel, task);
    this.queue(channel);
    return 0;
  }

  ended(channel: number, result: number): void {
    const layer = this.layers[this.layerOf[channel]!]!;
    const cache = layer.cache!;
    const slice = this.sliceOf[channel]!;
    const again = result === -Errno.EINTR || result === -Errno.EAGAIN;
    if (result > 0) this.done[channel]! += result;
    const part = result > 0 && this.done[channel]! < layer.sliceBytes;
    if (part || (again && ++this.tries[channel]! < maxTries)) {
      this.queue(channel);
      return;
    }
    // a table is whole: one that the file ends within has been cut off
    const error = result < 0 ? -result : result === 0 ? Errno.EIO : 0;
    if (error === 0) cache.loaded(slice);
    else cache.forget(slice);
    this.layerOf[channel] = -1;
    this.waits.wake(List.loads + channel, error);
    this.waits.wake(List.loadRoom);
  }

  private queue(channel: number): void {
    const layer = this.layers[this.layerOf[channel]!]!;
    const cache = layer.cache!;
    const slice = this.sliceOf[channel]!;
    const done = this.done[channel]!;
    const host = layer.hostOf(cache.tag(slice)) + done;
    const [at, bytes] = [cache.address(slice) + done, layer.sliceBytes - done];
    this.io.read(layer.fd, at, bytes, host, this.firstToken + channel);
  }
}
