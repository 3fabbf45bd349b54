import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { close, truncate } from "../../../src/ffi/file.ts";
import { MapFlag, memfd, mmap, munmap, Prot } from "../../../src/ffi/memory.ts";
import { readFrame } from "../../../src/ffi/tap.ts";
import { plainFrame } from "../../network/frames.ts";
import { NetRig, type RigOptions, TapHome } from "./net-rig.ts";

const MRG_RXBUF = 1 << 15;
const [GUEST_CSUM, GUEST_TSO4] = [1 << 1, 1 << 7];
const CTRL_VQ = 1 << 17;
const CTRL_RX = 1 << 18;
/** Neither offloads nor merged buffers. */
const simple = CTRL_VQ;
const merging = CTRL_VQ | MRG_RXBUF;
/** Frames that the backend moves before it is another's turn. */
const turn = 128;

const home = new TapHome();
afterAll(() => home.close());
let rig: NetRig;
afterEach(() => rig[Symbol.dispose]());
const open = (options: RigOptions = {}) =>
  (rig = new NetRig({ features: merging, home, ...options }));
const frames = (pair = 0) => rig.received(pair).map(({ frame }) => frame);
const watching = (index = 0) => rig.worker.watching(rig.spec.taps[index]!);

describe("a frame", () => {
  test.each([
    ["with merged buffers", merging],
    ["without", simple],
  ])("comes with its header and its length, %s", (_, features) => {
    open({ features });
    rig.post([[2000]]);
    rig.host.send(plainFrame(60, 1));
    rig.settle();

    const [received] = rig.received();

    expect(received!.frame).toEqual(plainFrame(60, 1));
    expect(received!.lengths).toEqual([72]);
    // no offload; num_buffers is 1 (virtio 1.2 section 5.1.6.4.1)
    expect([...new Uint8Array(received!.header.buffer, 0, 12)]).toEqual([
      ...[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    ]);
    expect([...rig.counters.subarray(0, 2)]).toEqual([60, 1]);
  });

  test.each([
    ["with merged buffers", merging],
    ["without", simple],
  ])("comes as well in the midst of others, %s", (_, features) => {
    open({ features });
    rig.post(Array.from({ length: 10 }, () => [2000]));
    for (let i = 0; i < 10; i++) rig.host.send(plainFrame(60 + i, i));
    rig.settle();

    const received = rig.received();

    expect(received.map(({ frame }) => frame)).toEqual(
      Array.from({ length: 10 }, (_one, i) => plainFrame(60 + i, i)),
    );
    for (const { header, lengths } of received) {
      expect([header.getUint16(10, true), lengths.length]).toEqual([1, 1]);
    }
  });

  test("finds its buffers after thousands of others", () => {
    open({ queueSize: 64 });
    rig.post(Array.from({ length: 20 }, () => [100])); // sixteen are taken ahead: the table is never empty
    for (let i = 0; i < 60; i++) {
      rig.post(Array.from({ length: 40 }, () => [100]));
      for (let mark = 0; mark < 40; mark++) rig.host.send(plainFrame(60, mark));
      rig.settle();
      expect(frames()).toEqual(Array.from({ length: 40 }, (_, mark) => plainFrame(60, mark)));
    }
  });

  test("goes on in the next buffers, each filled to its end", () => {
    open();
    rig.post(Array.from({ length: 20 }, () => [100]));
    rig.host.send(plainFrame(1500, 2));
    rig.host.send(plainFrame(60, 3));
    rig.settle();

    const [long, short] = rig.received();

    expect(long!.frame).toEqual(plainFrame(1500, 2));
    expect(long!.lengths).toEqual([...new Array<number>(15).fill(100), 12]);
    expect(short!.frame).toEqual(plainFrame(60, 3));
    expect(short!.lengths).toEqual([72]);
  });

  test.each([[[5, 5, 2, 1, 3, 2000]], [[11, 1, 5, 2000]], [[12, 2000]], [[10, 1, 1, 2000]]])(
    "is laid over segments of %p",
    (lengths) => {
      open();
      rig.post([lengths]);
      rig.host.send(plainFrame(300, 4));
      rig.settle();

      const [received] = rig.received();

      expect(received!.frame).toEqual(plainFrame(300, 4));
      expect(received!.header.getUint16(10, true)).toBe(1);
    },
  );

  test("after frame takes the next buffers of the ring, whichever comes first", () => {
    open({ queueSize: 8 });
    rig.post(Array(8).fill([150]));
    for (let mark = 0; mark < 16; mark++) {
      rig.host.send(plainFrame(1000, mark));
      rig.settle();
      const [received, ...more] = rig.received();
      expect([received!.frame, more]).toEqual([plainFrame(1000, mark), []]);
      expect(received!.lengths).toEqual([...Array(6).fill(150), 112]); // 12 of the header
      rig.post(Array(7).fill([150]));
    }
    for (const length of [1000, 60]) rig.host.send(plainFrame(length));
    rig.settle();
    expect(frames()).toEqual([plainFrame(1000), plainFrame(60)]); // all eight are there
  });

  test("takes more than 255 buffers", () => {
    open({ queueSize: 512 });
    rig.post(Array.from({ length: 400 }, () => [12]));
    rig.host.send(plainFrame(1514, 5));
    rig.host.send(plainFrame(1514, 6));
    rig.settle();

    // 128 buffers each; 144 are left
    expect(frames()).toEqual([plainFrame(1514, 5), plainFrame(1514, 6)]);
    rig.post(Array.from({ length: 256 }, () => [12]));
    rig.namespace.command("ip", "link", "set", rig.tap, "mtu", "4000");
    rig.host.send(plainFrame(4000, 7)); // 4012 bytes: 335 buffers
    rig.settle();
    expect(frames()).toEqual([plainFrame(4000, 7)]);
    rig.namespace.command("ip", "link", "set", rig.tap, "mtu", "1500");
  });

  test("that does not fit is dropped without merging, and its buffer serves the next", () => {
    open({ features: simple });
    rig.post([[200], [2000]]);
    rig.host.send(plainFrame(1500, 1));
    rig.host.send(plainFrame(188, 2));
    rig.host.send(plainFrame(189, 3));
    rig.settle();

    const received = rig.received();

    expect(received.map(({ frame }) => frame)).toEqual([plainFrame(188, 2), plainFrame(189, 3)]);
    expect(received.map(({ lengths }) => lengths)).toEqual([[200], [201]]);
    expect(rig.counters[4]).toBe(1);
  });

  test("that came before the driver was ready is not for it", () => {
    open({ idle: true });
    for (let i = 0; i < 5; i++) rig.host.send(plainFrame(100, i));
    rig.start();
    rig.post([[2000], [2000]]);
    rig.host.send(plainFrame(100, 9));
    rig.settle();

    expect(frames()).toEqual([plainFrame(100, 9)]);
  });
});

describe("without buffers", () => {
  test("the tap is not looked at, until there are some", () => {
    open();
    expect(watching()).toBe(false);
    rig.host.send(plainFrame(60, 1));
    expect(rig.worker.pump()).toBe(0);

    rig.post([[2000]]);
    expect(frames()).toEqual([plainFrame(60, 1)]);
    rig.host.send(plainFrame(60, 2));

    expect(watching()).toBe(false);
    expect(rig.worker.pump()).toBe(0);
    rig.post([[2000]]);
    expect(frames()).toEqual([plainFrame(60, 2)]);
  });

  test("the kernel drops what is too much, and the rest is not lost", () => {
    open({ queueSize: 2048 });
    const queueLength = 1000; // TUN_READQ_SIZE, Linux drivers/net/tun.c: 500 before 4.8, then the queue length
    for (let i = 0; i < queueLength + 200; i++) rig.host.send(plainFrame(60, i));
    rig.post(Array.from({ length: queueLength + 200 }, () => [100]));
    rig.settle();

    const received = frames();

    expect(received.length).toBeGreaterThanOrEqual(500);
    expect(received.length).toBeLessThanOrEqual(queueLength);
    expect(received).toEqual(received.map((_, i) => plainFrame(60, i)));
  });

  test.each([true, false])("kicks are asked for, and only then (event index: %p)", (eventIndex) => {
    open({ eventIndex });
    const driver = rig.drivers[0]!;
    const wantsKick = () =>
      eventIndex ? driver.availEvent === driver.availIndex : !driver.noNotify;
    expect(wantsKick()).toBe(true);

    rig.post([[100], [100]]);
    expect(wantsKick()).toBe(false);
    rig.post([[100]], 0, false); // without a kick
    for (let i = 0; i < 3; i++) rig.host.send(plainFrame(60, i));
    rig.settle();

    expect(frames().length).toBe(3);
    expect(wantsKick()).toBe(true);
  });
});

describe("with too few buffers", () => {
  test("a frame waits for more, and is not lost nor overtaken", () => {
    open();
    rig.post([[400], [400]]);
    rig.host.send(plainFrame(1500, 1));
    rig.host.send(plainFrame(60, 2));
    rig.settle();
    expect(rig.received()).toEqual([]);
    expect(watching()).toBe(false);

    rig.post([[300]]);
    expect(rig.received()).toEqual([]);
    rig.post([[5, 200, 250], [50, 100], [100]]);

    const [long, short] = rig.received();
    expect(long!.frame).toEqual(plainFrame(1500, 1));
    expect(long!.lengths).toEqual([400, 400, 300, 412]);
    expect(short!.frame).toEqual(plainFrame(60, 2));
    expect([...rig.counters.subarray(0, 2)]).toEqual([1560, 2]);
  });

  test("in the whole ring the frame is dropped, and they serve the next", () => {
    open({ queueSize: 4 });
    rig.post([[100], [100], [100], [100]]);
    rig.host.send(plainFrame(1500, 1));
    rig.host.send(plainFrame(150, 2));
    rig.settle();

    const [received] = rig.received();

    expect(received!.frame).toEqual(plainFrame(150, 2));
    expect(received!.lengths).toEqual([100, 62]);
    expect(rig.counters[4]).toBe(1);
  });
});

describe("turns", () => {
  test("end after a bounded number of frames", () => {
    open({ queueSize: 512 });
    rig.post(Array.from({ length: 400 }, () => [100]));
    for (let i = 0; i < 300; i++) rig.host.send(plainFrame(60, i));

    rig.worker.pump();
    expect(frames().length).toBe(turn);
    rig.worker.pump();
    expect(frames().length).toBe(turn);
    rig.settle();
    expect(frames().length).toBe(300 - 2 * turn);
  });

  test("call the driver once for all that they brought", () => {
    open();
    rig.post(Array.from({ length: 10 }, () => [100]));
    for (let i = 0; i < 10; i++) rig.host.send(plainFrame(60, i));
    const before = rig.calls[0]!;

    rig.settle();

    expect(rig.calls[0]! - before).toBe(1);
  });
});

describe("a stop", () => {
  test("leaves the chains in hand to the driver", () => {
    open();
    rig.post([[500], [500], [500]]);
    rig.host.send(plainFrame(60, 1));
    rig.settle();
    const queue = rig.queues[0]!;

    expect(rig.backend.stop()).toBe(true);

    expect(queue.nextAvail).toBe(1);
    expect(queue.nextUsed).toBe(1);
    expect(watching()).toBe(false);
  });

  test("leaves those of a frame that waited for more", () => {
    open();
    rig.post([[100], [100]]);
    rig.host.send(plainFrame(1500, 1));
    rig.settle();

    rig.backend.stop();

    expect(rig.queues[0]!.nextAvail).toBe(0);
    expect(rig.counters[4]).toBe(1); // the frame is lost
    rig.start();
    rig.post([[2000]]);
    rig.host.send(plainFrame(60, 2));
    rig.settle();
    expect(frames()).toEqual([plainFrame(60, 2)]);
  });
});

test("a pause costs no frame, and no buffer", () => {
  open();
  rig.post([[500], [500], [500], [500]]);
  rig.host.send(plainFrame(60, 1));
  rig.settle();

  rig.pause(() => rig.host.send(plainFrame(60, 2)));
  rig.host.send(plainFrame(60, 3));
  rig.settle();
  rig.send(plainFrame(60, 4));

  expect(frames()).toEqual([1, 2, 3].map((mark) => plainFrame(60, mark)));
  expect(rig.arrived()).toEqual([plainFrame(60, 4)]);
});

describe("a driver that breaks the rules", () => {
  test.each([[[11]], [[1]], [[4, 7]]])(
    "with a buffer of %p bytes costs itself the device",
    (lengths) => {
      open();
      rig.post([[100]]);

      expect(() => {
        rig.post([lengths]);
        rig.host.send(plainFrame(200, 1)); // more than the first buffer
        rig.settle();
      }).toThrow(GuestFault);

      expect(watching()).toBe(false);
      rig.backend.kicked(0);
      rig.backend.kicked(1);
      expect(frames()).toEqual([]);
      expect(rig.command(0, 0, 0)).toBe(-1);
      rig.backend.stop();
      rig.start();
      rig.post([[2000]]);
      rig.host.send(plainFrame(60, 2));
      rig.settle();
      expect(frames()).toEqual([plainFrame(60, 2)]);
    },
  );

  test("costs itself the device also where only a frame finds it out", () => {
    open();
    rig.post([[2000]]);
    rig.post([[11]], 0, false);
    for (let i = 0; i < 3; i++) rig.host.send(plainFrame(60, i));

    expect(() => rig.settle()).toThrow(GuestFault);

    expect(watching()).toBe(false);
    expect(rig.worker.pump()).toBe(0);
  });

  test("with a buffer of more segments than a read can take costs itself the device", () => {
    open({ queueSize: 2048 });

    expect(() => rig.post([new Array<number>(1024).fill(12)])).toThrow(GuestFault);
  });
});

test("room for long frames is kept at hand while they come", () => {
  const counts: number[] = [];
  const readAndCount: typeof readFrame = (fd, iovecs, count) => {
    const length = readFrame(fd, iovecs, count);
    if (length > 0) counts.push(count);
    return length;
  };
  const features = merging + GUEST_CSUM + GUEST_TSO4;
  open({ features, queueSize: 128, calls: { readFrame: readAndCount } });
  rig.namespace.command("ip", "link", "set", rig.tap, "mtu", "4000");
  const room = 1600;
  let posted = 0;
  const come = (lengths: readonly number[]) => {
    rig.post(Array.from({ length: 120 - posted }, () => [room]));
    for (const length of lengths) rig.host.send(plainFrame(length));
    rig.settle();
    const received = rig.received();
    expect(received.length).toBe(lengths.length);
    posted = 120 - received.reduce((sum, one) => sum + one.lengths.length, 0);
  };

  come([60, 60, 4000, 60, 60]);
  // a buffer, and the overflow area; after the long frame, room for 64 KiB (virtio 1.2 section 5.1.6.3.1)
  const [before, , , after] = counts;
  expect(before).toBe(2);
  expect(after).toBe(Math.ceil((65_536 + 18 + 12) / room) + 1);
  for (let i = 0; i < 30; i++) come(new Array<number>(10).fill(60));

  expect(counts.at(-1)).toBe(2);
  rig.namespace.command("ip", "link", "set", rig.tap, "mtu", "1500");
});

test("buffers of many segments come one after another", () => {
  open({ queueSize: 2048 });
  rig.post(Array.from({ length: 3 }, () => new Array<number>(600).fill(2)));
  for (let i = 0; i < 2; i++) rig.host.send(plainFrame(1100, i));
  rig.settle();

  expect(frames()).toEqual([plainFrame(1100, 0), plainFrame(1100, 1)]);
});

test("memory with nothing behind it takes no frame, and hurts nobody", () => {
  // persistent memory whose file was cut short: an access by the processor is a SIGBUS
  const fd = memfd("chv-test-net", false);
  truncate(fd, 8192);
  const hostAddress = mmap(0, 8192, Prot.read | Prot.write, MapFlag.shared, fd);
  truncate(fd, 0);
  const start = 0x1_0000_0000;
  open({ persistent: { start, length: 8192, hostAddress }, features: merging + CTRL_RX });
  const offer = (...lengths: number[]) =>
    rig.drivers[0]!.offer(
      lengths.map((length, i) => ({ address: start + 4 * i, length, write: true })),
    );
  offer(2000);
  rig.host.send(plainFrame(60, 1));
  rig.backend.kicked(0);
  rig.settle();
  expect(rig.drivers[0]!.collect()).toEqual([]);

  // what does not fit at first goes there, and the MAC is looked for there
  rig.backend.stop();
  rig.start();
  rig.command(0, 0, 0);
  rig.post([[400]]);
  rig.host.send(plainFrame(1500, 2));
  rig.settle();
  for (let i = 0; i < 3; i++) offer(5, 6, 500);
  rig.backend.kicked(0);
  rig.host.send(plainFrame(60, 3));
  rig.settle();

  expect(rig.drivers[0]!.collect().length).toBeGreaterThan(1);
  rig.backend.stop();
  munmap(hostAddress, 8192);
  close(fd);
});

test("a tap that is deleted pulls the cable, once", () => {
  rig = new NetRig();
  rig.post([[2000]]);
  expect(rig.config[6]).toBe(1); // VIRTIO_NET_S_LINK_UP

  rig.namespace.command("ip", "link", "delete", rig.tap);
  rig.settle();
  rig.send(plainFrame(60, 1));
  rig.send(plainFrame(60, 2));

  expect([rig.config[6], rig.config[7]]).toEqual([0, 0]);
  expect(rig.worker.configChanges).toBe(1);
  expect(rig.worker.warnings).toEqual(["the tap is gone; the link is down"]);
  expect(rig.drivers[1]!.collect().length).toBe(2);
  rig.backend.stop();
  rig.config[6] = 1; // as after the machine's reset
  rig.start();
  expect(rig.config[6]).toBe(0);
});
