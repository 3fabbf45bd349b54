/** A front end that does not keep to the protocol: it costs it the connection, and nobody anything else. */
import { afterEach, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { Message, number, numbers, Rig, SharedRam, state, table } from "./front-end.ts";
import { connectionsTo, copiesOf } from "./held.ts";
import { Holding, model, TestQueue, VERSION_1 } from "./queues.ts";

const MiB = 2 ** 20;
const cleanups: Disposable[] = [];
afterEach(() => {
  for (const one of cleanups.splice(0).reverse()) one[Symbol.dispose]();
});
const keep = <T extends Disposable>(one: T): T => {
  cleanups.push(one);
  return one;
};
const open = () => keep(new Rig(model, (host) => keep(new Holding(host))));
/** A file that nobody else has open. */
const ownFile = ({ folder }: Rig) => openSync(join(folder, "file"), "w");
const nothing = new Uint8Array();

test.each<[string, number, Uint8Array, object]>([
  ["another version", Message.GET_FEATURES, nothing, { flags: 2 }],
  ["no version", Message.GET_FEATURES, nothing, { flags: 0 }],
  ["a reply", Message.GET_FEATURES, nothing, { flags: 5 }],
  ["an unknown request", 99, nothing, {}],
  ["request 0", 0, nothing, {}],
  ["a request of 2^32 - 1", 0xffff_ffff, nothing, {}],
  ["a size of 2^32 - 1", Message.SET_FEATURES, nothing, { size: 0xffff_ffff }],
  ["a size just too large", Message.SET_FEATURES, nothing, { size: 1025 }],
  ["a payload where there is none", Message.GET_FEATURES, number(0), {}],
  ["an owner with a payload", Message.SET_OWNER, number(0), {}],
  ["one that goes, with a payload", Message.RESET_OWNER, number(0), {}],
  ["a reset with a payload", Message.RESET_DEVICE, number(0), {}],
  ["a payload that is too short", Message.SET_FEATURES, Uint8Array.of(1, 2, 3, 4), {}],
  ["one that is too long", Message.SET_FEATURES, numbers(1, 2), {}],
  ["a log", 6, numbers(0, 0), {}], // SET_LOG_BASE, which was not offered
  ["a queue that there is not", Message.SET_VRING_NUM, state(3, 16), {}],
  ["a queue of 2^32 - 1", Message.SET_VRING_ENABLE, state(0xffff_ffff, 1), {}],
  ["a kick for no queue", Message.SET_VRING_KICK, number(0xff), {}],
  ["a kick with strange bits", Message.SET_VRING_KICK, number(0x200), {}],
  ["a kick without a descriptor", Message.SET_VRING_KICK, number(0), {}],
  ["a call without a descriptor", Message.SET_VRING_CALL, number(0), {}],
  ["a channel without a descriptor", Message.SET_BACKEND_REQ_FD, nothing, {}],
  ["more regions than it has room for", Message.SET_MEM_TABLE, numbers(8), {}],
  ["a region count of 2^32 - 1", Message.SET_MEM_TABLE, numbers(0xffff_ffff), {}],
  ["more configuration than it says", Message.GET_CONFIG, new Uint8Array(40), {}],
  ["a short inflight area", Message.SET_INFLIGHT_FD, new Uint8Array(16), {}],
])("%s ends the connection", (_, request, payload, sending) => {
  const rig = open();
  const front = rig.connect().begin(VERSION_1);

  expect(front.endsAfter(request, payload, sending)).toBe(true);

  expect(rig.warnings.length).toBe(1);
  expect(rig.connect().askNumber(Message.GET_QUEUE_NUM)).toBe(3n);
});

test("descriptors that nobody asked for are closed", () => {
  const rig = open();
  const front = rig.connect().begin(VERSION_1);
  front.tell(Message.SET_OWNER);
  const file = ownFile(rig);

  for (let i = 0; i < 50; i++) front.tell(Message.SET_OWNER, undefined, [file, file, file]);

  expect(copiesOf(file)).toEqual([1]);
  closeSync(file);
});

test("more descriptors than any message has end the connection, and none is left open", () => {
  const rig = open();
  const front = rig.connect().begin(VERSION_1);
  front.tell(Message.SET_OWNER);
  const file = ownFile(rig);
  const fds = new Array<number>(200).fill(file);
  expect(connectionsTo(rig.path)).toBe(1);

  expect(front.endsAfter(Message.SET_OWNER, undefined, { fds })).toBe(true);

  expect([copiesOf(file), connectionsTo(rig.path)]).toEqual([[1], 0]);
  closeSync(file);
});

test("a session gives back all that it was given", () => {
  const rig = open();
  const ram = keep(new SharedRam(MiB, 0, 0x1000_0000));
  const maps = () => Bun.file("/proc/self/maps").text();
  const rounds = 3;
  for (let i = 0; i < rounds; i++) {
    const front = rig.connect().begin(VERSION_1);
    front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
    using queue = new TestQueue(front, ram, 0);
    queue.start();
    const area = front.ask(
      Message.GET_INFLIGHT_FD,
      new Uint8Array([...numbers(0, 0), 3, 0, 16, 0]),
    );
    front.tell(Message.SET_INFLIGHT_FD, new Uint8Array(area.payload.buffer), area.fds);
    front.tell(Message.SET_BACKEND_REQ_FD, undefined, [ram.fd]);
    const given = [ram.fd, area.fds[0]!, queue.kick, queue.call, queue.error];
    expect(copiesOf(...given).every((count) => count > 1)).toBe(true);
    front.close();
    rig.until(() => (connectionsTo(rig.path) === 0 ? true : undefined));

    expect(copiesOf(...given)).toEqual([1, 1, 1, 1, 1]);
    closeSync(area.fds[0]!);
  }

  return maps().then((text) => {
    expect(text.split("\n").filter((line) => line.includes("memfd:test-ram")).length).toBe(1);
    expect(text).not.toContain("memfd:inflight");
  });
});

test.each([
  ["a file", () => openSync("/dev/null", "r+")], // epoll takes it not
  ["what cannot be read", () => openSync("/tmp", "r")],
])("a kick that is %s is refused", (_, make) => {
  const rig = open();
  const ram = keep(new SharedRam(MiB, 0, 0x1000_0000));
  const front = rig.connect().begin(VERSION_1);
  front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
  const queue = keep(new TestQueue(front, ram, 0)).describe();
  front.tell(Message.SET_VRING_ENABLE, state(0, 1));
  const fd = make();

  expect(front.tell(Message.SET_VRING_KICK, number(0), [fd])).not.toBe(0);
  expect(front.tell(Message.SET_VRING_KICK, number(0), [queue.kick])).toBe(0);
  closeSync(fd);
});

test("a front end that reads no replies is left", () => {
  const rig = open();
  const front = rig.connect().begin(VERSION_1);
  let sent = 0;
  rig.until(() => {
    const taken = front.sendRaw(new Uint8Array([17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]));
    sent++;
    return taken === -32 || sent > 1e6 ? true : undefined; // EPIPE
  });

  expect(sent).toBeLessThan(1e6);
});

test("a front end may leave in the middle of anything", () => {
  const rig = open();
  for (let length = 0; length < 20; length++) {
    const front = rig.connect();
    front.sendRaw(
      new Uint8Array([2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).subarray(
        0,
        length,
      ),
    );
    rig.turn();
    front.close();
    rig.turn();
  }

  expect(rig.connect().askNumber(Message.GET_QUEUE_NUM)).toBe(3n);
});
