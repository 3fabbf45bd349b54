/**
 * Chains in flight over the death of a back end (vhost-user, "Inflight I/O tracking"). The area's layout is written out
 * here by hand: 16 bytes for the queue, then 16 for each descriptor.
 */
import { afterEach, describe, expect, test } from "bun:test";
import { closeSync, fstatSync } from "node:fs";
import fc from "fast-check";
import { InflightQueue } from "../../../src/devices/vhost-user/inflight.ts";
import { windowOn } from "../../../src/ffi/block.ts";
import { MapFlag, mmap, munmap, Prot } from "../../../src/ffi/memory.ts";
import { type FrontEnd, Message, Rig, SharedRam, table } from "./front-end.ts";
import { Holding, model, TestQueue, VERSION_1 } from "./queues.ts";

const MiB = 2 ** 20;
const entries = 16;
const cleanups: Disposable[] = [];
afterEach(() => {
  for (const one of cleanups.splice(0).reverse()) one[Symbol.dispose]();
});
const keep = <T extends Disposable>(one: T): T => {
  cleanups.push(one);
  return one;
};

/** One queue's region, by its bytes. */
class Area {
  constructor(
    readonly view: DataView,
    readonly at = 0,
  ) {}
  static blank(): Area {
    return new Area(new DataView(new ArrayBuffer(16 + 16 * entries)));
  }
  get version(): number {
    return this.view.getUint16(this.at + 8, true);
  }
  set version(value: number) {
    this.view.setUint16(this.at + 8, value, true);
  }
  get size(): number {
    return this.view.getUint16(this.at + 10, true);
  }
  set lastBatch(head: number) {
    this.view.setUint16(this.at + 12, head, true);
  }
  get usedIndex(): number {
    return this.view.getUint16(this.at + 14, true);
  }
  set usedIndex(index: number) {
    this.view.setUint16(this.at + 14, index, true);
  }
  inFlight(head: number): boolean {
    return this.view.getUint8(this.at + 16 + 16 * head) === 1;
  }
  mark(head: number, counter: bigint, next = 0): void {
    const at = this.at + 16 + 16 * head;
    this.view.setUint8(at, 1);
    this.view.setUint16(at + 6, next, true);
    this.view.setBigUint64(at + 8, counter, true);
  }
  counter(head: number): bigint {
    return this.view.getBigUint64(this.at + 16 + 16 * head + 8, true);
  }
  get marked(): number[] {
    return Array.from({ length: entries }, (_, i) => i).filter((head) => this.inFlight(head));
  }
  open(usedIndex: number): InflightQueue {
    return new InflightQueue(this.view.buffer as ArrayBuffer, this.at, entries, usedIndex);
  }
}

describe("a queue's region", () => {
  test("that was never used is made ready", () => {
    const area = Area.blank();

    expect([...area.open(7).heads]).toEqual([]);
    expect([area.version, area.size, area.usedIndex]).toEqual([1, entries, 7]);
  });

  test("has what was taken and is not in the used ring", () => {
    const area = Area.blank();
    const queue = area.open(0);
    for (const head of [3, 9, 1, 5]) queue.taken(head);
    for (const head of [9, 5]) queue.completed(head);

    expect(area.marked).toEqual([1, 3, 5, 9]); // the used index has not moved yet
    queue.published(2);

    expect(area.marked).toEqual([1, 3]);
    expect(area.usedIndex).toBe(2);
    expect([...area.open(2).heads]).toEqual([3, 1]); // in the order in which they were taken
  });

  test("has a chain that was taken again after it had ended, whatever ends then", () => {
    const area = Area.blank();
    const queue = area.open(0);
    for (const head of [0, 1]) queue.taken(head);
    queue.completed(0);
    queue.published(1);
    queue.taken(0);
    queue.completed(1);
    queue.published(2);

    expect(area.marked).toEqual([0]);
  });

  test("of a process that died before it moved the used index has all of it", () => {
    const area = Area.blank();
    const queue = area.open(0);
    for (const head of [4, 2]) queue.taken(head);
    queue.completed(4);

    expect([...area.open(0).heads]).toEqual([4, 2]);
  });

  test("of a process that died right after that has none of the last batch", () => {
    const area = Area.blank();
    const queue = area.open(0xfffe);
    for (const head of [4, 2, 7]) queue.taken(head);
    for (const head of [7, 4]) queue.completed(head);

    expect([...area.open(0).heads]).toEqual([2]); // from 0xfffe two on is 0
    expect(area.marked).toEqual([2]);
    expect(area.usedIndex).toBe(0);
  });

  test("tells the order by 64-bit counters", () => {
    const area = Area.blank();
    area.version = 1;
    area.mark(1, 2n ** 33n);
    area.mark(2, 5n);
    area.mark(3, 2n ** 32n + 1n);

    const queue = area.open(0);
    queue.taken(0);

    expect([...area.open(0).heads]).toEqual([2, 3, 1, 0]); // and the count goes on
    expect(area.counter(0)).toBe(2n ** 33n + 1n);
  });

  test("a chain that was put back is not in flight", () => {
    const area = Area.blank();
    const queue = area.open(0);
    queue.taken(6);

    queue.putBack(6);

    expect(area.marked).toEqual([]);
  });

  test("may hold anything at all", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16 + 16 * entries, maxLength: 16 + 16 * entries }),
        fc.integer({ min: 0, max: 0xffff }),
        (bytes, usedIndex) => {
          const area = new Area(new DataView(bytes.slice().buffer));
          area.version = 1;

          const queue = area.open(usedIndex);

          expect(queue.heads.every((head) => head < entries)).toBe(true);
          expect(new Set(queue.heads).size).toBe(queue.heads.length);
          expect(area.usedIndex).toBe(usedIndex);
          expect(area.marked.length).toBe(queue.heads.length);
        },
      ),
    );
  });

  test("a list of a batch that goes round in a circle ends", () => {
    const area = Area.blank();
    area.version = 1;
    area.lastBatch = 3;
    area.mark(3, 0n, 3);
    area.mark(4, 1n);

    expect([...area.open(0x8000).heads]).toEqual([4]);
  });
});

describe("a back end's successor", () => {
  const user = 0x4000_0000_0000;
  const shape = (size: number, offset: number, queues: number, queueSize: number) => {
    const view = new DataView(new ArrayBuffer(24));
    view.setBigUint64(0, BigInt(size), true);
    view.setBigUint64(8, BigInt(offset), true);
    view.setUint16(16, queues, true);
    view.setUint16(18, queueSize, true);
    return new Uint8Array(view.buffer);
  };

  function open(): { rig: Rig; backend: Holding; front: FrontEnd } {
    const backends: Holding[] = [];
    const create = (host: ConstructorParameters<typeof Holding>[0]) => {
      backends.push(new Holding(host));
      return backends[0]!;
    };
    const rig = keep(new Rig(model, create));
    return { rig, backend: keep(backends[0]!), front: rig.connect().begin(VERSION_1) };
  }

  /** The area as a front end gets it, and the payload with which it gives it back. */
  function getArea(front: FrontEnd) {
    const reply = front.ask(Message.GET_INFLIGHT_FD, shape(0, 0, model.queues, entries));
    const [fd] = reply.fds;
    const payload = new Uint8Array(reply.payload.buffer);
    const bytes = Number(reply.payload.getBigUint64(0, true));
    keep({ [Symbol.dispose]: () => closeSync(fd!) });
    return { fd: fd!, payload, bytes };
  }

  test("gets an area of zeroes with room for every queue", () => {
    const { front } = open();

    const { fd, payload, bytes } = getArea(front);

    expect(bytes).toBeGreaterThanOrEqual(model.queues * (16 + 16 * entries));
    expect(fstatSync(fd).size).toBe(bytes);
    expect(payload.subarray(8)).toEqual(shape(0, 0, model.queues, entries).subarray(8));
    const address = mmap(0, bytes, Prot.read, MapFlag.shared, fd);
    expect(new Uint8Array(windowOn(address, bytes)).every((byte) => byte === 0)).toBe(true);
    munmap(address, bytes);
  });

  test("takes up the chains that were in flight, in their order, before new ones", () => {
    const first = open();
    const ram = keep(new SharedRam(MiB, 0, user));
    const area = getArea(first.front);
    const begin = ({ front }: typeof first) => {
      front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
      expect(front.tell(Message.SET_INFLIGHT_FD, area.payload, [area.fd])).toBe(0);
    };
    begin(first);
    const queue = keep(new TestQueue(first.front, ram, 1)).start();
    for (let i = 0; i < 5; i++) queue.offer();
    first.rig.until(() => (first.backend.taken[1]!.length === 5 ? true : undefined));
    first.backend.finishSome(1, [3, 0]); // out of order; then it is as if it were killed

    const second = open();
    begin(second);
    queue.driver.offer([{ address: 0, length: 8, write: true }]);
    const again = keep(new TestQueue(second.front, ram, 1, 16, 0, queue.driver));
    again.start(queue.driver.usedIndex);

    expect(second.backend.taken[1]).toEqual([1, 2, 4, 5]); // 5 is the new one
    second.backend.finish(1);
    expect(queue.driver.usedIndex).toBe(6);
  });

  test("that comes while queues run is theirs from then on, and they go on", () => {
    const { rig, front, backend } = open();
    const ram = keep(new SharedRam(MiB, 0, user));
    front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
    const queue = keep(new TestQueue(front, ram, 1)).start();
    const area = getArea(front);

    expect(front.tell(Message.SET_INFLIGHT_FD, area.payload, [area.fd])).toBe(0);
    queue.offer();
    rig.until(() => (backend.taken[1]!.length === 1 ? true : undefined));
    backend.finish(1);

    expect(queue.driver.usedIndex).toBe(1);
  });

  test.each([
    ["of no queues", shape(4096, 0, 0, entries)],
    ["of queues without entries", shape(4096, 0, 1, 0)],
    ["that is too short", shape(64, 0, 1, entries)],
    ["beyond the end of its file", shape(4096, 4096, 1, entries)],
    ["at an odd offset", shape(1024, 3, 1, entries)],
    ["whose end wraps around", shape(Number.MAX_SAFE_INTEGER, 64, 1, entries)],
  ])("an area %s is refused", (_, payload) => {
    const { front } = open();
    const { fd } = getArea(front);

    expect(front.tell(Message.SET_INFLIGHT_FD, payload, [fd])).not.toBe(0);
    expect(front.tell(Message.SET_OWNER)).toBe(0);
  });

  test.each([
    ["more queues than there are", shape(0, 0, 4, entries)],
    ["queues of 65535 entries", shape(0, 0, 1, 65535)],
  ])("no area is made for %s", (_, payload) => {
    const { front } = open();

    front.send(Message.GET_INFLIGHT_FD, payload, { needReply: true });
    const reply = front.receive();

    expect(reply).toMatchObject({ request: Message.GET_INFLIGHT_FD, fds: [] });
    expect((reply as { payload: DataView }).payload.getBigUint64(0, true)).not.toBe(0n);
  });
});
