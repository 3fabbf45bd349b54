import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { writeFrame } from "../../../src/ffi/tap.ts";
import { plainFrame } from "../../network/frames.ts";
import { headerBytes, NetRig, type RigOptions, TapHome } from "./net-rig.ts";

const CTRL_VQ = 1 << 17;
const MQ = 1 << 22;
const [EAGAIN, EIO] = [11, 5];
/** Frames that the backend moves before it is another's turn. */
const turn = 128;

const home = new TapHome();
afterAll(() => home.close());
let rig: NetRig;
afterEach(() => rig[Symbol.dispose]());
const open = (options: RigOptions = {}) =>
  (rig = new NetRig({ features: CTRL_VQ, home, ...options }));
const collected = (pair = 0) => rig.drivers[2 * pair + 1]!.collect();

test.each([[[]], [[12]], [[5, 7, 1, 20]], [[13]], [[11, 1, 1]]])(
  "a frame in segments of %p leaves as it is",
  (cut) => {
    open();

    const head = rig.offer(plainFrame(300, 1), undefined, cut);
    rig.backend.kicked(1);

    expect(rig.arrived()).toEqual([plainFrame(300, 1)]);
    expect(collected()).toEqual([{ head, written: 0 }]);
    expect(rig.calls[1]).toBe(1);
    expect([...rig.counters.subarray(2, 4)]).toEqual([300, 1]);
  },
);

test("frames keep their order, and a batch is one call", () => {
  open();
  for (let i = 0; i < 20; i++) rig.offer(plainFrame(60 + i, i));
  rig.backend.kicked(1);

  expect(rig.arrived()).toEqual(Array.from({ length: 20 }, (_, i) => plainFrame(60 + i, i)));
  expect(rig.calls[1]).toBe(1);
  rig.send(plainFrame(60, 99));
  expect(rig.arrived()).toEqual([plainFrame(60, 99)]);
});

describe("a frame that cannot go is dropped, and the next one goes:", () => {
  const next = () => {
    rig.send(plainFrame(60, 9));
    expect(rig.arrived()).toEqual([plainFrame(60, 9)]);
    expect(collected().length).toBe(2);
    expect(rig.counters[6]).toBe(1);
  };

  test("one that ends in its header", () => {
    open();
    const address = rig.room(5);
    rig.drivers[1]!.offer([{ address, length: 5 }]);
    rig.backend.kicked(1);
    next();
  });

  test("one without a byte to read", () => {
    open();
    rig.drivers[1]!.offer([{ address: rig.room(5), length: 5, write: true }]);
    rig.backend.kicked(1);
    next();
  });

  test("one shorter than Ethernet's header", () => {
    open();
    rig.send(plainFrame(14).subarray(0, 13));
    next();
  });

  test("one with a header that is none", () => {
    open();
    const wrong = new Uint8Array(headerBytes);
    wrong[1] = 0x7f; // gso_type
    rig.send(plainFrame(300), wrong);
    next();
  });

  test("one for an interface that is down", () => {
    open();
    rig.namespace.command("ip", "link", "set", rig.tap, "down");
    rig.send(plainFrame(60, 1));
    rig.namespace.command("ip", "link", "set", rig.tap, "up");
    rig.arrived();
    next();
  });
});

describe("a tap that takes no more", () => {
  /** The first `refusals` writes are refused. */
  const refusing = (refusals: number, error: number) => {
    let left = refusals;
    const refuse: typeof writeFrame = (...args) => (left-- > 0 ? -error : writeFrame(...args));
    return { writeFrame: refuse };
  };

  test("is waited for, and frames keep their order", () => {
    open({ calls: refusing(2, EAGAIN) });
    for (let i = 0; i < 3; i++) rig.offer(plainFrame(60, i));
    rig.backend.kicked(1);
    expect(rig.arrived()).toEqual([]);
    expect(rig.worker.watching(rig.spec.taps[0]!)).toBe(true);

    rig.settle();

    expect(rig.arrived()).toEqual([0, 1, 2].map((mark) => plainFrame(60, mark)));
    expect(rig.worker.watching(rig.spec.taps[0]!)).toBe(false);
    expect(rig.counters[6]).toBe(0);
  });

  test("does not keep frames from coming", () => {
    open({ calls: refusing(1e9, EAGAIN) });
    rig.post([[100], [100]]);
    rig.send(plainFrame(60, 1));
    rig.host.send(plainFrame(60, 2));
    for (let i = 0; i < 3; i++) rig.worker.pump();

    expect(rig.received().map(({ frame }) => frame)).toEqual([plainFrame(60, 2)]);
  });

  test("leaves the frame to the driver at a stop", () => {
    open({ calls: refusing(1e9, EAGAIN) });
    rig.offer(plainFrame(60, 1));
    rig.offer(plainFrame(60, 2));
    rig.backend.kicked(1);

    expect(rig.backend.stop()).toBe(true);

    expect(rig.queues[1]!.nextAvail).toBe(0);
    expect(rig.worker.watching(rig.spec.taps[0]!)).toBe(false);
  });

  test("or fails costs the frame", () => {
    open({ calls: refusing(1, EIO) });
    rig.send(plainFrame(60, 1));
    rig.send(plainFrame(60, 2));

    expect(rig.arrived()).toEqual([plainFrame(60, 2)]);
    expect(rig.counters[6]).toBe(1);
  });
});

describe("turns", () => {
  test("end after a bounded number of frames, also when the driver never stops", () => {
    open({ queueSize: 512 });
    for (let i = 0; i < 300; i++) rig.offer(plainFrame(60, i));

    rig.backend.kicked(1);
    expect(rig.arrived().length).toBe(turn);
    expect(collected().length).toBe(turn);
    rig.worker.pump();
    expect(rig.arrived().length).toBe(turn);
    rig.settle();
    expect(rig.arrived().length).toBe(300 - 2 * turn);
    expect(rig.worker.pump()).toBe(0);
  });

  test("are each queue's", () => {
    open({ queueSize: 512, pairs: 2, features: CTRL_VQ | MQ });
    rig.command(4, 0, 2, 0);
    for (let i = 0; i < 200; i++) rig.offer(plainFrame(60, i));
    rig.offer(plainFrame(60, 250), undefined, [], 1);

    rig.backend.kicked(1);
    rig.backend.kicked(3);

    expect(rig.arrived()).toContainEqual(plainFrame(60, 250));
    expect(collected(0).length).toBe(turn);
  });

  test("that were not over end at a stop", () => {
    open({ queueSize: 512 });
    for (let i = 0; i < 200; i++) rig.offer(plainFrame(60, i));
    rig.backend.kicked(1);
    rig.backend.stop();
    rig.arrived();

    rig.settle();

    expect(rig.arrived()).toEqual([]);
    expect(rig.queues[1]!.nextAvail).toBe(turn);
  });
});

test.each([true, false])("kicks are asked for when all is sent (event index: %p)", (eventIndex) => {
  open({ eventIndex });
  const driver = rig.drivers[1]!;
  for (let i = 0; i < 3; i++) rig.send(plainFrame(60, i));

  if (eventIndex) expect(driver.availEvent).toBe(3);
  else expect(driver.noNotify).toBe(false);
  expect(rig.arrived().length).toBe(3);
});
