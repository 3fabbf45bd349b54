/** A front end's session: negotiation, rings and their states, configuration, reconnection. */
import { afterEach, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import type { DeviceModel } from "../../../src/devices/vhost-user/device.ts";
import { signalEventfd } from "../../../src/ffi/eventfd.ts";
import {
  allProtocol,
  F_PROTOCOL_FEATURES,
  Message,
  number,
  numbers,
  Rig,
  SharedRam,
  state,
  table,
} from "./front-end.ts";
import { Holding, INDIRECT, model, TestQueue, VERSION_1 } from "./queues.ts";

const MiB = 2 ** 20;
const cleanups: Disposable[] = [];
afterEach(() => {
  for (const one of cleanups.splice(0).reverse()) one[Symbol.dispose]();
});
const using_ = <T extends Disposable>(one: T): T => {
  cleanups.push(one);
  return one;
};

function open(changes: Partial<DeviceModel> = {}) {
  const backends: Holding[] = [];
  const rig = using_(
    new Rig({ ...model, ...changes }, (host) => {
      backends.push(new Holding(host));
      return backends[0]!;
    }),
  );
  return { rig, backend: using_(backends[0]!) };
}

/** A front end with memory, ready for queues. */
function connected(changes: Partial<DeviceModel> = {}, features = VERSION_1) {
  const { rig, backend } = open(changes);
  const ram = using_(new SharedRam(MiB, 0x10_0000, 0x7f00_0000_0000));
  const front = rig.connect().begin(features);
  expect(front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd])).toBe(0);
  const queue = (index: number, size?: number) => using_(new TestQueue(front, ram, index, size));
  return { rig, backend, ram, front, queue };
}

describe("negotiation", () => {
  test("offers the device's features and the protocol's own bit", () => {
    const front = open().rig.connect();

    expect(front.askNumber(Message.GET_FEATURES)).toBe(model.features | F_PROTOCOL_FEATURES);
    expect(front.askNumber(Message.GET_PROTOCOL_FEATURES)).toBe(allProtocol);
    expect(front.askNumber(Message.GET_QUEUE_NUM)).toBe(3n);
  });

  test("a device whose chains end in order tracks none in flight", () => {
    const front = open({ tracksInFlight: false }).rig.connect();

    expect(front.askNumber(Message.GET_PROTOCOL_FEATURES)).toBe(allProtocol & ~(1n << 12n));
  });

  test.each([
    ["features", Message.SET_FEATURES, 1n << 5n],
    ["protocol features", Message.SET_PROTOCOL_FEATURES, 1n << 1n],
  ])("%s that were not offered are refused", (_, request, bits) => {
    const front = open().rig.connect().begin(VERSION_1);

    expect(front.tell(request, number(bits))).not.toBe(0);
    expect(front.tell(Message.SET_OWNER)).toBe(0); // the session goes on
  });

  test("without an acknowledgement asked for, a refusal ends the connection", () => {
    const front = open().rig.connect();

    expect(front.endsAfter(Message.SET_FEATURES, number(1n << 5n))).toBe(true);
  });

  test("nothing is acknowledged before REPLY_ACK is chosen", () => {
    const front = open().rig.connect();

    front.send(Message.SET_OWNER, undefined, { needReply: true });

    expect(front.ask(Message.GET_QUEUE_NUM).payload.getBigUint64(0, true)).toBe(3n);
  });

  test("the backend gets the features that the driver accepted", () => {
    const { backend, queue } = connected({}, VERSION_1 | INDIRECT);

    queue(0).start();

    expect(backend.log).toEqual(["start 0 0x110000000"]);
  });
});

describe("a ring", () => {
  test("is worked from its kick's descriptor on, when it is enabled", () => {
    const { rig, backend, front, queue } = connected();
    const one = queue(1).describe();
    one.offer();

    front.tell(Message.SET_VRING_KICK, number(1), [one.kick]);
    rig.turn();
    expect(backend.log).toEqual([]);
    front.tell(Message.SET_VRING_ENABLE, state(1, 1));

    expect(backend.log).toEqual(["start 1 0x100000000"]);
    expect(backend.taken[1]).toEqual([0]); // what was there before the first kick
  });

  test("is enabled from the start for a front end without protocol features", () => {
    const { rig, backend } = open();
    const ram = using_(new SharedRam(MiB, 0, 0x1000_0000));
    const front = rig.connect();
    front.send(Message.SET_FEATURES, number(VERSION_1));
    front.send(Message.SET_MEM_TABLE, table(ram.row), { fds: [ram.fd] });
    front.send(Message.SET_PROTOCOL_FEATURES, number(1n << 3n)); // for `describe`
    const queue = using_(new TestQueue(front, ram, 0)).describe();

    front.tell(Message.SET_VRING_KICK, number(0), [queue.kick]);

    expect(backend.log).toEqual(["start 0 0x100000000"]);
  });

  test("hears kicks, and calls when the driver wants it", () => {
    const { rig, backend, queue } = connected();
    const one = queue(0).start();
    expect(one.called).toBe(false);
    one.offer();
    rig.until(() => (backend.taken[0]!.length === 1 ? true : undefined));

    backend.finish(0);

    expect(one.called).toBe(true);
    expect(one.driver.collect()).toEqual([{ head: 0, written: 0 }]);
    one.driver.noInterrupt = true;
    one.offer();
    rig.until(() => (backend.taken[0]!.length === 1 ? true : undefined));
    backend.finish(0);
    expect(one.called).toBe(false);
  });

  test("goes on where it was, after it was stopped", () => {
    const { rig, backend, queue } = connected();
    const one = queue(0).start();
    one.offer();
    rig.until(() => (backend.taken[0]!.length === 1 ? true : undefined));
    backend.finish(0);

    expect(one.stop()).toBe(1);
    expect(one.called).toBe(true);
    one.offer();
    one.start(1);

    expect(backend.taken[0]).toEqual([1]);
    expect(one.called).toBe(true); // what was answered before may not have been heard
  });

  test("stops when its requests have ended; others go on meanwhile", () => {
    const { rig, backend, front, queue } = connected();
    const one = queue(0).start();
    const other = queue(2).start();
    one.offer();
    rig.until(() => (backend.taken[0]!.length === 1 ? true : undefined));

    front.send(Message.GET_VRING_BASE, state(0, 0));
    rig.turn();
    one.offer(); // too late for this queue
    other.offer();
    rig.until(() => (backend.taken[2]!.length === 1 ? true : undefined));
    expect(backend.taken[0]).toEqual([0]);
    backend.finish(0);
    const reply = front.receive();

    expect(reply).not.toBe("gone");
    expect(reply).toMatchObject({ request: Message.GET_VRING_BASE });
    expect((reply as { payload: DataView }).payload.getUint32(4, true)).toBe(1);
    expect(backend.log).toEqual(["start 0 0x100000000", "start queue 2", "stop queue 0"]);
  });

  test("that is disabled rests, and keeps its place", () => {
    const { rig, backend, front, queue } = connected();
    const one = queue(0).start();
    one.offer();
    rig.until(() => (backend.taken[0]!.length === 1 ? true : undefined));
    backend.finish(0);

    expect(front.tell(Message.SET_VRING_ENABLE, state(0, 0))).toBe(0);
    one.offer();
    rig.turn();
    expect(backend.queues.filter(Boolean)).toEqual([]);
    expect(backend.log).toEqual(["start 0 0x100000000", "stop queue 0", "stop"]);
    expect(front.tell(Message.SET_VRING_ENABLE, state(0, 1))).toBe(0);

    expect(backend.taken[0]).toEqual([1]);
  });

  test("takes another kick and another call while it runs", () => {
    const { rig, backend, front, queue } = connected();
    const one = queue(0).start();
    const spare = queue(1);
    front.tell(Message.SET_VRING_KICK, number(0), [spare.kick]);
    front.tell(Message.SET_VRING_CALL, number(0), [spare.call]);
    expect(spare.called).toBe(true);
    one.offer(); // by the descriptor of before
    rig.turn();
    expect(backend.taken[0]).toEqual([]);

    signalEventfd(spare.kick);
    rig.until(() => (backend.taken[0]!.length === 1 ? true : undefined));
    backend.finish(0);

    expect(spare.called).toBe(true);
  });

  test.each([
    ["its size", Message.SET_VRING_NUM, state(0, 32)],
    ["its base", Message.SET_VRING_BASE, state(0, 3)],
  ])("keeps %s while it runs", (_, request, payload) => {
    const { front, queue } = connected();
    queue(0).start();

    expect(front.tell(request, payload)).not.toBe(0);
  });

  test("may be told its addresses anew while it runs, if they are the same", () => {
    const { front, ram, queue } = connected();
    const { desc, driver, device } = queue(0).start().driver.layout;
    const [d, u, a] = [desc, device, driver].map((address) => ram.userAddress(address));

    expect(front.tell(Message.SET_VRING_ADDR, numbers(0, d!, u!, a!, 0))).toBe(0);
    expect(front.tell(Message.SET_VRING_ADDR, numbers(0, d!, u!, a! + 2, 0))).not.toBe(0);
  });

  test.each<[string, number, (user: number) => Uint8Array]>([
    ["an avail index above 16 bits", Message.SET_VRING_BASE, () => state(1, 0x1_0000)],
    [
      "a log of its used ring", // VHOST_VRING_F_LOG
      Message.SET_VRING_ADDR,
      (user) => numbers(1n | (1n << 32n), user, user + 0x2000, user + 0x1000, 0),
    ],
    ["no kicks: it is to be polled", Message.SET_VRING_KICK, () => number(0x101)],
  ])("with %s is refused", (_, request, payload) => {
    const { front, ram } = connected();

    expect(front.tell(request, payload(ram.user))).not.toBe(0);
    expect(front.tell(Message.SET_OWNER)).toBe(0); // the session goes on
  });

  test.each([0, 3, 65536])("of %d entries cannot be", (entries) => {
    const { front } = connected();

    expect(front.tell(Message.SET_VRING_NUM, state(0, entries))).not.toBe(0);
  });

  test("a driver that breaks its ring is told by the error's descriptor, and may start anew", () => {
    const { rig, backend, queue } = connected();
    const one = queue(0).start();
    one.driver.describe(0, { address: 2n ** 40n, length: 1, flags: 0, next: 0 });
    one.driver.publish(0);
    signalEventfd(one.kick);
    rig.until(() => (one.failed ? true : undefined));
    expect(rig.warnings.join()).toMatch(/the driver broke its queue/);
    one.offer();
    rig.turn();
    expect(backend.taken[0]).toEqual([]);

    one.stop();
    const again = queue(1).start();
    again.offer();

    rig.until(() => (backend.taken[1]!.length === 1 ? true : undefined));
  });
});

describe("reset", () => {
  test("RESET_OWNER disables all rings", () => {
    const { backend, front, queue } = connected();
    queue(0).start();

    expect(front.tell(Message.RESET_OWNER)).toBe(0);
    expect(backend.log.at(-1)).toBe("stop");
    expect(front.tell(Message.SET_VRING_ENABLE, state(0, 1))).toBe(0);
    expect(backend.log.at(-1)).toBe("start 0 0x100000000");
  });

  test("RESET_DEVICE also forgets what the driver chose", () => {
    const { rig, backend, front, queue } = connected();
    queue(0).start();
    front.tell(Message.SET_CONFIG, configPayload(4, [9]));

    expect(front.tell(Message.RESET_DEVICE)).toBe(0);
    expect(rig.config[4]).toBe(5);
    front.tell(Message.SET_VRING_ENABLE, state(0, 1));
    expect(backend.log.at(-1)).toBe("start 0 0x0");
  });
});

/** offset, size, flags, bytes. */
function configPayload(offset: number, bytes: readonly number[], flags = 0): Uint8Array {
  const head = new Uint8Array(Uint32Array.of(offset, bytes.length, flags).buffer);
  return Uint8Array.from([...head, ...bytes]);
}

describe("configuration space", () => {
  const read = (offset: number, length: number) => {
    const front = open().rig.connect();
    const asked = new Array<number>(length).fill(0xee); // what is there before means nothing
    const { payload } = front.ask(Message.GET_CONFIG, configPayload(offset, asked));
    return [...new Uint8Array(payload.buffer)].slice(12);
  };

  test.each([
    [0, 8, [1, 2, 3, 4, 5, 6, 7, 8]],
    [6, 4, [7, 8, 0, 0]], // a front end of later days asks for more than there is
    [252, 4, [0, 0, 0, 0]],
    [253, 4, []], // no configuration space is that long
  ])("at %d, %d bytes", (offset, length, expected) => {
    expect(read(offset, length)).toEqual(expected);
  });

  test("takes what the driver may write, and nothing else", () => {
    const { rig, front } = connected();

    expect(front.tell(Message.SET_CONFIG, configPayload(4, [0xaa]))).toBe(0);
    expect(front.tell(Message.SET_CONFIG, configPayload(3, [1, 2]))).not.toBe(0);
    expect(front.tell(Message.SET_CONFIG, configPayload(4, [0xbb], 1))).not.toBe(0); // migration
    expect(front.tell(Message.SET_CONFIG, configPayload(250, [1]))).not.toBe(0);
    expect([...rig.config]).toEqual([1, 2, 3, 4, 0xaa, 6, 7, 8]);
  });

  test("a change is told on the channel that the front end gave", () => {
    const { rig, backend, front } = connected();
    const channel = rig.pair();
    expect(front.tell(Message.SET_BACKEND_REQ_FD, undefined, [channel.theirs])).toBe(0);
    closeSync(channel.theirs);

    backend.host.configChanged();

    expect(channel.ours.receive()).toMatchObject({ request: 2, flags: 1 }); // CONFIG_CHANGE_MSG
    channel.ours.close();
  });
});

describe("front ends come one after another", () => {
  test("the second is served when the first has gone and its requests have ended", () => {
    const { rig, backend, front, queue } = connected();
    queue(0).start().offer();
    rig.until(() => (backend.taken[0]!.length === 1 ? true : undefined));
    const second = rig.connect();
    second.send(Message.GET_QUEUE_NUM);

    front.close();
    rig.turn(1);
    rig.turn(1);
    expect(backend.log.at(-1)).toBe("stop");
    backend.finish(0);

    expect(second.receive()).toMatchObject({ request: Message.GET_QUEUE_NUM });
  });

  test("nothing of the first is left for the second", () => {
    const { rig, front, queue } = connected();
    queue(0).start();
    front.tell(Message.SET_CONFIG, configPayload(4, [9]));
    front.close();

    const second = rig.connect().begin(VERSION_1);

    expect(second.tell(Message.SET_VRING_ADDR, new Uint8Array(40))).not.toBe(0); // no memory
    expect([...rig.config]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test("a message may come in pieces", () => {
    const { rig } = open();
    const front = rig.connect();
    const bytes = new Uint8Array([17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // GET_QUEUE_NUM
    for (const byte of bytes) {
      front.sendRaw(Uint8Array.of(byte));
      rig.turn(1);
    }

    expect(front.receive()).toMatchObject({ request: Message.GET_QUEUE_NUM });
  });
});
