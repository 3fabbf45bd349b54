/**
 * A qcow2 image as a disk (docs/interop/qcow2.rst): reads, writes, DISCARD, WRITE_ZEROES and flushes, by slot. Data of
 * clusters that are there moves straight between the file and guest memory; for the rest see reader.ts and writer.ts.
 * Everything is begun, and goes on, in `turn`.
 */
import { fileCalls } from "../../../ffi/file-vector.ts";
import type { RequestRing } from "../../../ffi/io-uring.ts";
import { Errno } from "../../../ffi/libc.ts";
import { waitReadable } from "../../../ffi/poll.ts";
import type { Chores } from "../../chores/chores.ts";
import { CallRing } from "../call-ring.ts";
import type { DiskImage, ImageClient } from "../disk-image.ts";
import type { Transfers } from "../transfers.ts";
import { extraRequests, type Tokens, tokensOf } from "./lists.ts";
import { buildParts, type Parts, type PartsOptions } from "./parts.ts";
import { Op } from "./requests.ts";
import type { Qcow2Spec } from "./spec.ts";

/** Chores of the call ring have tags from here on; below are the inflater's. */
const firstCallTag = 2 ** 16;
/** How often, and how long, the end of an image waits for a host that says nothing before it gives up. */
const patience = 10;
const pauseMs = 1000;
/** Flags: the image is being closed; it was told that it is broken. */
const [closing, warned] = [0, 1];

export class Qcow2Image implements DiskImage {
  readonly fd: number;
  /** Readable when a compressed cluster has been unpacked. */
  readonly otherFd: number;
  private readonly ring: RequestRing;
  private readonly calls: CallRing | undefined;
  private readonly parts: Parts;
  private readonly tokens: Tokens;
  private readonly flags = new Uint8Array(2);
  private readonly choreEnded: (tag: number, error: number) => void;

  /**
   * By a ring, which has `extraRequests` entries beside one for each slot and is the image's from now on, or without
   * one. The files stay their opener's.
   */
  constructor(
    readonly spec: Qcow2Spec,
    readonly transfers: Transfers,
    readonly client: ImageClient,
    ring: RequestRing | undefined,
    readonly chores: Chores,
    options: PartsOptions = {},
  ) {
    const { slots } = transfers;
    this.tokens = tokensOf(slots);
    const calls = options.calls ?? fileCalls;
    this.calls = ring
      ? undefined
      : new CallRing(slots + extraRequests, chores, firstCallTag, calls);
    this.ring = ring ?? this.calls!;
    this.fd = this.ring.fd;
    this.otherFd = chores.fd;
    const hooks = {
      ended: (slot: number, error: number) => client.ended(slot, error),
      inflated: (task: number, address: number, error: number) =>
        this.readerOf(task).inflated(this.slotOf(task), address, error),
      warn: (what: string) => this.warn(what),
    };
    this.parts = buildParts(spec, transfers, this.ring, chores, hooks, options);
    this.choreEnded = (tag, error) => {
      if (tag >= firstCallTag) this.calls?.choreEnded(tag, error);
      else if (this.flags[closing] === 0) this.parts.inflater.unpacked(tag, error);
    };
  }

  read(slot: number): void {
    this.parts.requests.begin(slot, Op.read, false, false);
    this.parts.reader.begin(slot);
  }

  write(slot: number, durable: boolean): void {
    this.begin(slot, Op.write, false, durable);
  }

  flush(slot: number): void {
    this.begin(slot, Op.flush, false, false);
  }

  discard(slot: number): void {
    this.begin(slot, Op.discard, false, false);
  }

  writeZeroes(slot: number, unmap: boolean, durable: boolean): void {
    this.begin(slot, Op.zero, unmap, durable);
  }

  turn(): void {
    const { parts } = this;
    const { waits, io, lane } = parts;
    for (let first = true; ; first = false) {
      for (let task = waits.next(); task >= 0; task = waits.next()) this.goOn(task);
      lane?.idle();
      if (!first && io.queued === 0 && !waits.hasReady) return;
      this.exchange();
    }
  }

  /** Writes what has not been written of the tables. Requests that have not ended never do. */
  close(): void {
    const { lane, io } = this.parts;
    this.flags[closing] = 1;
    this.calls?.workAlone();
    for (let silent = 0; silent < patience && lane?.finish(); ) {
      const ended = this.exchange();
      const waits = !lane.isFree || !io.drained;
      if (ended || !waits || this.fd < 0) continue;
      if (!waitReadable(this.fd, pauseMs)) silent++;
    }
    this.ring.close();
  }

  private begin(slot: number, op: number, unmap: boolean, durable: boolean): void {
    this.parts.requests.begin(slot, op, unmap, durable);
    this.parts.waits.makeReady(slot);
  }

  private goOn(task: number): void {
    const { parts } = this;
    if (task < this.tokens.copies && parts.requests.ops[task] !== Op.read) {
      this.change(task);
    } else {
      this.readerOf(task).goOn(this.slotOf(task));
    }
  }

  /** Goes on with a slot that changes the image. */
  private change(slot: number): void {
    const { writer, requests } = this.parts;
    if (writer) writer.goOn(slot);
    else if (requests.ops[slot] === Op.flush) this.client.ended(slot, 0);
    else this.client.ended(slot, Errno.EROFS);
  }

  /** Hands the host what is queued, and takes what has ended: true when something has. */
  private exchange(): boolean {
    const { ring, parts, chores } = this;
    let any = false;
    parts.io.submit();
    // before the ring, which has the call ring's chores to tell of
    if (this.calls || parts.inflater.hasChores) chores.turn(this.choreEnded);
    while (ring.next()) {
      any = true;
      this.ended(ring.token, ring.result);
    }
    parts.inflater.unpack();
    return any;
  }

  private ended(token: number, result: number): void {
    const { parts, tokens } = this;
    parts.io.ended(token);
    if (token >= tokens.lane) parts.lane!.ended(token - tokens.lane, result);
    else if (this.flags[closing] === 1) return;
    else if (token >= tokens.loads) parts.loads.ended(token - tokens.loads, result);
    else if (token >= tokens.inflated) parts.inflater.readEnded(token - tokens.inflated, result);
    else if (token >= tokens.copies || parts.requests.ops[token] === Op.read) {
      this.readerOf(token).moved(this.slotOf(token), result);
    } else parts.writer!.moved(token, result);
  }

  /** A task, and its token, is a slot's; or a copy's, which has a reader of its own. */
  private readerOf(task: number) {
    const { parts, tokens } = this;
    return task < tokens.copies ? parts.reader : parts.writer!.copies.reader;
  }
  private slotOf(task: number): number {
    return task < this.tokens.copies ? task : task - this.tokens.copies;
  }

  private warn(what: string): void {
    if (this.flags[warned] === 1) return;
    this.flags[warned] = 1;
    this.client.warn?.(`the image is broken: ${what}; run qemu-img check -r all`);
  }
}
