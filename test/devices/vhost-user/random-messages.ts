/**
 * Random messages to a server with a real disk behind it: sensible ones, so that sessions come far, with anything at
 * all among them. Nothing may be thrown, no descriptor be left open, and the next front end is served.
 */
import { expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { createEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { DiskRig, diskFeatures, offerRequest } from "./disk.ts";
import {
  F_PROTOCOL_FEATURES,
  type FrontEnd,
  Message,
  number,
  numbers,
  SharedRam,
  state,
  table,
} from "./front-end.ts";
import { connectionsTo, copiesOf, memfdsNamed } from "./held.ts";
import { TestQueue } from "./queues.ts";

const MiB = 2 ** 20;
const user = 0x2000_0000_0000;

/** What a message may take beside its payload. */
interface Props {
  readonly ram: SharedRam;
  readonly eventfd: number;
  readonly file: number;
}

const word = fc.oneof(
  fc.constantFrom(0n, 1n, 2n, 16n, 4096n, 1n << 30n, 1n << 32n, 1n << 52n, (1n << 64n) - 1n),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.integer({ min: 0, max: MiB }).map((offset) => BigInt(user + offset)),
);
const small = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
const fds = fc.array(fc.constantFrom("ram", "eventfd", "file"), { maxLength: 9 });

interface Step {
  readonly request: number;
  readonly payload: Uint8Array;
  readonly fds: readonly ("ram" | "eventfd" | "file")[];
  readonly flags: number;
}
const step = (
  request: number,
  payload: fc.Arbitrary<Uint8Array>,
  given: readonly ("ram" | "eventfd" | "file")[] = [],
): fc.Arbitrary<Step> =>
  payload.map((bytes) => ({ request, payload: bytes, fds: given, flags: 9 }));

const queue = fc.integer({ min: 0, max: 2 });
const ring = fc.constantFrom(user + 0x1000, user + 0x2000, user + 0x3000, user + MiB - 8);
const region = fc.tuple(
  fc.constantFrom(0, 4096, MiB),
  fc.constantFrom(4096, MiB),
  fc.constantFrom(user, user + MiB),
);

const sensible = fc.oneof(
  step(Message.SET_FEATURES, fc.constant(number(diskFeatures | F_PROTOCOL_FEATURES))),
  step(Message.SET_FEATURES, fc.constant(number(diskFeatures))),
  step(Message.SET_MEM_TABLE, fc.constant(table([0, MiB, user, 0])), ["ram"]),
  step(
    Message.SET_MEM_TABLE,
    region.map(([guest, size, at]) => table([guest, size, at, 0])),
    ["ram"],
  ),
  step(
    Message.ADD_MEM_REG,
    region.map(([guest, size, at]) => numbers(0, guest, size, at, 0)),
    ["ram"],
  ),
  step(
    Message.REM_MEM_REG,
    region.map(([guest, size, at]) => numbers(0, guest, size, at, 0)),
  ),
  step(
    Message.SET_VRING_NUM,
    fc.tuple(queue, fc.constantFrom(1, 4, 16)).map(([i, n]) => state(i, n)),
  ),
  step(
    Message.SET_VRING_BASE,
    fc.tuple(queue, fc.constantFrom(0, 1, 65535)).map(([i, n]) => state(i, n)),
  ),
  step(
    Message.SET_VRING_ADDR,
    fc.tuple(queue, ring, ring, ring).map(([i, d, u, a]) => numbers(i, d, u, a, 0)),
  ),
  step(Message.SET_VRING_KICK, queue.map(number), ["eventfd"]),
  step(Message.SET_VRING_CALL, queue.map(number), ["eventfd"]),
  step(
    Message.SET_VRING_ENABLE,
    fc.tuple(queue, fc.constantFrom(0, 1)).map(([i, n]) => state(i, n)),
  ),
  step(
    Message.GET_VRING_BASE,
    queue.map((index) => state(index, 0)),
  ),
  step(Message.GET_INFLIGHT_FD, fc.constant(Uint8Array.of(...numbers(0, 0), 2, 0, 16, 0))),
  step(Message.SET_INFLIGHT_FD, fc.constant(Uint8Array.of(...numbers(4096, 0), 2, 0, 16, 0)), [
    "ram",
  ]),
  step(Message.RESET_OWNER, fc.constant(new Uint8Array())),
  step(Message.RESET_DEVICE, fc.constant(new Uint8Array())),
);
const anything: fc.Arbitrary<Step> = fc.record({
  request: fc.oneof(fc.constantFrom(...Object.values(Message)), fc.integer({ min: 0, max: 50 })),
  payload: fc.oneof(
    fc.array(word, { maxLength: 6 }).map((words) => numbers(...words)),
    fc.tuple(small, small).map(([index, value]) => state(index, value)),
    fc.uint8Array({ maxLength: 300 }),
  ),
  fds,
  flags: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(1, 9) },
    { weight: 1, arbitrary: fc.nat(15) },
  ),
});
const session = fc.array(
  fc.oneof({ weight: 5, arbitrary: sensible }, { weight: 1, arbitrary: anything }),
  { minLength: 1, maxLength: 30 },
);

function send(front: FrontEnd, props: Props, { request, payload, fds: given, flags }: Step): void {
  const sent = given.map((name) => (name === "ram" ? props.ram.fd : props[name]));
  front.send(request, payload, { fds: sent, flags });
}

/** One session, and one more that does what a session should. */
function play(rig: DiskRig, props: Props, steps: readonly Step[]): void {
  const front = rig.connect().begin(diskFeatures);
  for (const one of steps) {
    send(front, props, one);
    rig.turn();
    signalEventfd(props.eventfd);
    rig.turn();
  }
  front.close();
  ended(rig);
}

/** A session ends when its last request has, which may be a write that the kernel takes its time for. */
function ended(rig: DiskRig): void {
  rig.until(() => (connectionsTo(rig.path) === 0 ? true : undefined));
}

function works(rig: DiskRig, ram: SharedRam): void {
  const front = rig.connect().begin(diskFeatures);
  front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
  using disk = new TestQueue(front, ram, 0);
  disk.start();
  offerRequest(disk, ram, 0, 0, 0x9000, 512);
  signalEventfd(disk.kick);
  rig.until(() => (disk.driver.usedIndex === 1 ? true : undefined));
  front.close();
  ended(rig);
}

export function randomMessages(numRuns: number): void {
  test(`${numRuns} random sessions leave a server that serves, and no descriptor`, () => {
    using rig = new DiskRig(64, 3);
    using ram = new SharedRam(MiB, 0, user);
    using other = new SharedRam(MiB, 0, user);
    const file = openSync(join(rig.folder, "file"), "w+");
    const props = { ram: other, eventfd: createEventfd(), file };
    works(rig, ram);
    fc.assert(
      fc.property(session, fc.uint8Array({ minLength: 64, maxLength: 64 }), (steps, noise) => {
        for (const at of [0x1000, 0x2000, 0x3000]) other.bytes(at, 64).set(noise);
        play(rig, props, steps);
        expect(copiesOf(other.fd, props.eventfd, file)).toEqual([1, 1, 1]);
        expect(memfdsNamed("inflight")).toBe(0);
      }),
      { numRuns },
    );
    works(rig, ram);
    closeSync(props.eventfd);
    closeSync(file);
  }, 600_000);
}
