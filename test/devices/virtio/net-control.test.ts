/** Commands of the control queue (virtio 1.2 section 5.1.6.5), written out byte by byte. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { plainFrame } from "../../network/frames.ts";
import { guestMac, NetRig, type RigOptions, TapHome } from "./net-rig.ts";

const [OK, ERR] = [0, 1];
const bit = (number: number) => 2 ** number;
const [GUEST_CSUM, GUEST_OFFLOADS, TSO4, TSO6, ECN, UFO] = [1, 2, 7, 8, 9, 10].map(bit);
const [MRG_RXBUF, CTRL_VQ, CTRL_RX, RX_EXTRA, MQ, MAC_ADDR] = [15, 17, 18, 20, 22, 23].map(bit);

const home = new TapHome();
afterAll(() => home.close());
let rig: NetRig;
afterEach(() => rig[Symbol.dispose]());
const open = (options: RigOptions = {}) => (rig = new NetRig({ home, ...options }));

const own = guestMac;
const other = [0x02, 9, 9, 9, 9, 9];
const broadcast = [255, 255, 255, 255, 255, 255];
const group = [0x01, 0x00, 0x5e, 0, 0, 0x55];
const group2 = [0x33, 0x33, 0, 0, 0, 1];

/** Which of these addresses' frames come to the driver. */
function reached(...addresses: readonly (readonly number[])[]): number[] {
  rig.post(addresses.map(() => [400]));
  for (const [i, address] of addresses.entries()) rig.host.send(plainFrame(60, i, address));
  rig.settle();
  const marks = rig.received().map(({ frame }) => frame[59]! - plainFrame(60)[59]!);
  return marks.map((mark) => mark & 0xff);
}

const table = (unicast: number[][], multicast: number[][]) => [
  ...[unicast.length, 0, 0, 0, ...unicast.flat(), multicast.length, 0, 0, 0, ...multicast.flat()],
];
const count = (number: number) => [number & 255, (number >> 8) & 255, number >>> 16, 0];

describe("receive filtering", () => {
  test("lets everything through until the driver says otherwise, and again after a reset", () => {
    open();
    expect(reached(own, other, broadcast, group)).toEqual([0, 1, 2, 3]);
    expect(rig.command(0, 0, 0)).toBe(OK); // PROMISC off
    expect(reached(own, other, broadcast, group)).toEqual([0, 2]);
    expect(rig.counters[5]).toBe(2);
    expect(rig.command(0, 0, 1)).toBe(OK);
    expect(reached(own, other, broadcast, group)).toEqual([0, 1, 2, 3]);

    rig.command(0, 0, 0);
    rig.backend.stop();
    rig.start();

    expect(reached(own, other, broadcast, group)).toEqual([0, 1, 2, 3]);
  });

  test("a frame that is filtered takes no buffer", () => {
    open();
    rig.command(0, 0, 0);
    rig.post([[400]]);
    for (let i = 0; i < 5; i++) rig.host.send(plainFrame(60, i, other));
    rig.host.send(plainFrame(60, 7, own));
    rig.settle();

    expect(rig.received().map(({ frame }) => frame)).toEqual([plainFrame(60, 7, own)]);
  });

  test.each([CTRL_VQ! + CTRL_RX!, CTRL_VQ! + CTRL_RX! + MRG_RXBUF!])(
    "holds for every frame of many (features %d)",
    (features) => {
      open({ features });
      rig.command(0, 0, 0);
      rig.post(Array.from({ length: 10 }, () => [2000]));
      for (let i = 0; i < 10; i++) rig.host.send(plainFrame(60, i, i % 2 ? own : other));
      rig.settle();

      const marks = [1, 3, 5, 7, 9];
      const frames = rig.received().map(({ frame }) => frame);
      expect(frames).toEqual(marks.map((mark) => plainFrame(60, mark, own)));
    },
  );

  test("looks at the address wherever the driver cut its buffers", () => {
    open();
    rig.command(0, 0, 0);
    const cuts = [
      [12, 100],
      [13, 1, 2, 100],
      [17, 100],
      [5, 12, 100],
    ];
    for (const lengths of cuts) {
      rig.post([lengths]);
      rig.host.send(plainFrame(60, 1, other));
      rig.host.send(plainFrame(60, 2, own));
      rig.settle();
      expect(rig.received().map(({ frame }) => frame)).toEqual([plainFrame(60, 2, own)]);
    }
    rig.post([[12], [14], [100]]);
    rig.host.send(plainFrame(60, 1, other));
    rig.host.send(plainFrame(60, 2, own));
    rig.settle();
    expect(rig.received().map(({ frame }) => frame)).toEqual([plainFrame(60, 2, own)]);
  });

  test("lets listed addresses through", () => {
    open();
    rig.command(0, 0, 0);

    expect(rig.command(1, 0, ...table([other], [group]))).toBe(OK);
    expect(reached(own, other, broadcast, group, group2)).toEqual([0, 1, 2, 3]);
    expect(rig.command(1, 0, ...table([], [group2]))).toBe(OK);
    expect(reached(own, other, broadcast, group, group2)).toEqual([0, 2, 4]);
  });

  test("lets all of a kind through when more are listed than it keeps", () => {
    open();
    rig.command(0, 0, 0);
    const many = (length: number, first: number) =>
      Array.from({ length }, (_, i) => [first, 7, 7, 7, 7, i]);

    rig.command(1, 0, ...table(many(64, 2), many(64, 3)));
    expect(reached(own, other, [2, 7, 7, 7, 7, 63], group, [3, 7, 7, 7, 7, 63])).toEqual([0, 2, 4]);
    rig.command(1, 0, ...table(many(65, 2), []));
    expect(reached(own, other, group)).toEqual([0, 1]);
    rig.command(1, 0, ...table([], many(65, 3)));
    expect(reached(own, other, group)).toEqual([0, 2]);
  });

  test.each([
    ["ALLMULTI", [[1, 1]], [0, 2, 3]],
    ["ALLUNI", [[2, 1]], [0, 1, 2]],
    [
      "NOMULTI",
      [
        [1, 1],
        [3, 1],
      ],
      [0, 2],
    ],
    ["NOUNI", [[4, 1]], [2]],
    ["NOBCAST", [[5, 1]], [0]],
    [
      "NOBCAST and off again",
      [
        [5, 1],
        [5, 0],
      ],
      [0, 2],
    ],
  ])("%s does what it says", (_, commands, through) => {
    open();
    rig.command(0, 0, 0);

    for (const [command, on] of commands) expect(rig.command(0, command!, on!)).toBe(OK);

    expect(reached(own, other, broadcast, group)).toEqual(through);
  });
});

describe("the MAC", () => {
  test("changes for the filter and in configuration space, until a reset", () => {
    open();
    rig.command(0, 0, 0);

    expect(rig.command(1, 1, ...other)).toBe(OK);

    expect([...rig.config.subarray(0, 6)]).toEqual(other);
    expect(reached(own, other)).toEqual([1]);
    rig.backend.stop();
    expect([...rig.config.subarray(0, 6)]).toEqual(own);
    rig.start();
    rig.command(0, 0, 0);
    expect(reached(own, other)).toEqual([0]);
  });
});

describe("queue pairs", () => {
  const several = CTRL_VQ! + MQ! + MRG_RXBUF!;

  /** Which pairs bring frames of many flows to the driver. */
  function pairsReached(): number[] {
    for (let pair = 0; pair < 4; pair++)
      rig.post(
        Array.from({ length: 40 }, () => [100]),
        pair,
      );
    // the kernel spreads flows by their addresses: 32 hosts' IPv4 packets
    for (let i = 0; i < 32; i++) {
      const frame = plainFrame(60, i);
      frame.set([0x08, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, i, 10, 0, 1, 1], 12);
      rig.host.send(frame);
    }
    rig.settle();
    return [0, 1, 2, 3].filter((pair) => rig.received(pair).length > 0);
  }

  test("are one at first, then as many as the driver says", () => {
    open({ pairs: 4, features: several, queueSize: 256 });
    expect(rig.told).toEqual(["detach 1", "detach 2", "detach 3", "offload 0"]);
    expect(pairsReached()).toEqual([0]);

    expect(rig.command(4, 0, 4, 0)).toBe(OK);
    expect(pairsReached().length).toBeGreaterThan(1);
    expect(rig.command(4, 0, 2, 0)).toBe(OK);
    expect(pairsReached().every((pair) => pair < 2)).toBe(true);
    expect(rig.told.slice(4)).toEqual(["attach 1", "attach 2", "attach 3", "detach 2", "detach 3"]);

    rig.backend.stop();
    rig.start();
    expect(pairsReached()).toEqual([0]);
    expect(rig.worker.warnings).toEqual([]);
  });

  test("send, each of them; those that are not in use do not", () => {
    open({ pairs: 4, features: several });
    rig.send(plainFrame(60, 1), undefined, [], 2);
    expect(rig.arrived()).toEqual([]);

    rig.command(4, 0, 3, 0); // what waited there goes
    rig.send(plainFrame(60, 2), undefined, [], 1);

    expect(rig.arrived()).toEqual([plainFrame(60, 1), plainFrame(60, 2)]);
  });

  test.each([[[0, 0]], [[5, 0]], [[0, 1]], [[255, 255]]])("are refused as %p", (bytes) => {
    open({ pairs: 4, features: several });
    expect(rig.command(4, 0, ...bytes)).toBe(ERR);
    expect(pairsReached()).toEqual([0]);
  });

  test("are refused where the driver has not enabled the queues", () => {
    open({ pairs: 2, features: several, idle: true });
    rig.start();
    rig.backend.stop();
    rig.start([2]);

    expect(rig.command(4, 0, 2, 0)).toBe(ERR);
  });

  test("without MQ are one, and its control queue is number 2", () => {
    open({ pairs: 4, features: CTRL_VQ! + MRG_RXBUF! });
    expect(rig.controlQueue).toBe(2);

    expect(rig.command(4, 0, 1, 0)).toBe(ERR);
    expect(rig.told).toEqual(["detach 1", "detach 2", "detach 3", "offload 0"]);
    rig.send(plainFrame(60, 1));
    expect(rig.arrived()).toEqual([plainFrame(60, 1)]);
  });

  test("without a control queue are those that a front end has started", () => {
    open({ pairs: 4, features: MQ! + MRG_RXBUF!, idle: true });
    rig.start([4, 5, 6, 7, 8]);
    expect(rig.told).toEqual(["detach 2", "detach 3", "offload 0"]);
    rig.send(plainFrame(60, 1), undefined, [], 1);

    expect(rig.arrived()).toEqual([plainFrame(60, 1)]);
  });
});

describe("offloads of what the guest receives", () => {
  // linux/if_tun.h
  const tun = { csum: 1, tso4: 2, tso6: 4, ecn: 8, ufo: 16 };
  const all = GUEST_CSUM! + TSO4! + TSO6! + ECN! + UFO!;
  const features = CTRL_VQ! + GUEST_OFFLOADS! + all;
  const low = (bits: number) => [bits & 255, (bits >> 8) & 255, 0, 0, 0, 0, 0, 0];

  test.each([
    [0, 0],
    [GUEST_CSUM!, tun.csum],
    [GUEST_CSUM! + TSO4!, tun.csum + tun.tso4],
    [GUEST_CSUM! + TSO6!, tun.csum + tun.tso6],
    [GUEST_CSUM! + TSO4! + ECN!, tun.csum + tun.tso4 + tun.ecn],
    [GUEST_CSUM! + UFO!, tun.csum + tun.ufo],
    [all, 31],
    [TSO4! + UFO!, 0], // without checksums there is nothing else (virtio 1.2 section 5.1.3.1)
    [GUEST_CSUM! + ECN!, tun.csum], // ECN is of segments of TCP, and a tap refuses it alone
    [GUEST_CSUM! + UFO! + ECN!, tun.csum + tun.ufo],
  ])("%d are what the tap is told, when the driver accepts them", (bits, flags) => {
    open({ features: CTRL_VQ! + bits });
    expect(rig.told).toEqual([`offload ${flags}`]);
    expect(rig.worker.warnings).toEqual([]);
  });

  test("are switched by command, within what the driver accepted", () => {
    open({ features });
    rig.told.length = 0;

    expect(rig.command(5, 0, ...low(GUEST_CSUM!))).toBe(OK);
    expect(rig.command(5, 0, ...low(0))).toBe(OK);
    expect(rig.command(5, 0, ...low(all))).toBe(OK);

    expect(rig.told).toEqual(["offload 1", "offload 0", "offload 31"]);
  });

  test.each([
    ["one that was not accepted", features - UFO!, low(all)],
    ["one that is not the guest's", features, low(GUEST_CSUM! + 1)],
    ["one above 32 bits", features, [...low(GUEST_CSUM!).slice(0, 4), 1, 0, 0, 0]],
  ])("%s is refused, and nothing changes", (_, accepted, bytes) => {
    open({ features: accepted });
    rig.told.length = 0;

    expect(rig.command(5, 0, ...bytes)).toBe(ERR);
    expect(rig.told).toEqual([]);
  });

  test("that the kernel refuses are refused", () => {
    let result = 0;
    open({ features, calls: { setOffload: () => result } });
    result = -22;

    expect(rig.command(5, 0, ...low(GUEST_CSUM!))).toBe(ERR);
    rig.backend.stop();
    rig.start();
    expect(rig.worker.warnings).toEqual([
      "the tap takes no offloads; the guest receives without them",
    ]);
  });

  test("that the kernel refuses leave none of an earlier driver", () => {
    const told: number[] = [];
    const setOffload = (_fd: number, flags: number) => {
      told.push(flags);
      return flags === 0 ? 0 : -22; // EINVAL
    };
    open({ features, calls: { setOffload } });

    expect(told).toEqual([31, 0]);
  });
});

describe("a pause", () => {
  test("leaves the filter, the MAC, the pairs and the offloads as the driver set them", () => {
    open({ pairs: 2 });
    rig.command(0, 0, 0);
    rig.command(1, 1, ...other);
    rig.command(1, 0, ...table([], [group]));
    rig.command(4, 0, 2, 0);
    rig.command(5, 0, GUEST_CSUM!, 0, 0, 0, 0, 0, 0, 0);
    rig.told.length = 0;

    rig.pause();

    expect([...rig.config.subarray(0, 6)]).toEqual(other);
    expect(rig.told).toEqual(["offload 1"]);
    rig.post([[400], [400], [400], [400]], 1);
    const all = [own, other, group, group2];
    rig.post(all.map(() => [400]));
    for (const [i, address] of all.entries()) rig.host.send(plainFrame(60, i, address));
    rig.settle();
    const came = [...rig.received(0), ...rig.received(1)].map(({ frame }) => [
      ...frame.subarray(0, 6),
    ]);
    expect(came.toSorted()).toEqual([group, other].toSorted());
    rig.send(plainFrame(60, 3), undefined, [], 1);
    expect(rig.arrived()).toEqual([plainFrame(60, 3)]);
    expect(rig.command(0, 0, 1)).toBe(OK);
  });

  test("ends with a reset: the next driver finds all as it was at first", () => {
    open();
    rig.command(1, 1, ...other);
    rig.command(0, 0, 0);
    rig.pause();
    rig.backend.stop();
    expect([...rig.config.subarray(0, 6)]).toEqual(own);
    rig.start();

    expect(reached(own, other, group2)).toEqual([0, 1, 2]);
  });
});

describe("a command", () => {
  test.each([
    ["RX", CTRL_RX, [0, 0, 0]],
    ["RX of all multicast", CTRL_RX, [0, 1, 0]],
    ["RX_EXTRA", RX_EXTRA, [0, 2, 0]],
    ["MAC table", CTRL_RX, [1, 0, ...table([], [])]],
    ["MAC", MAC_ADDR, [1, 1, ...other]],
    ["MQ", MQ, [4, 0, 1, 0]],
    ["offloads", GUEST_OFFLOADS, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
  ])("%s is refused without its feature, or of another length", (_, feature, bytes) => {
    const everything = CTRL_VQ! + CTRL_RX! + RX_EXTRA! + MAC_ADDR! + MQ! + GUEST_OFFLOADS!;
    open({ features: everything - feature! });
    expect(rig.command(...bytes)).toBe(ERR);
    rig[Symbol.dispose]();

    open({ features: everything });
    expect(rig.command(...bytes)).toBe(OK);
    expect(rig.command(...bytes, 0)).toBe(ERR);
    for (let length = 0; length < bytes.length; length++) {
      expect(rig.command(...bytes.slice(0, length))).toBe(ERR);
    }
  });

  test.each([
    ["a class that there is not", [2, 0, 1, 0]],
    ["another", [9, 0]],
    ["an RX command that there is not", [0, 6, 1]],
    ["a MAC command that there is not", [1, 2]],
    ["an MQ command that there is not", [4, 1, 1, 0]],
    ["an offload command that there is not", [5, 1, 0, 0, 0, 0, 0, 0, 0, 0]],
    ["an announcement", [3, 0]],
    ["a table longer than its command", [1, 0, 2, 0, 0, 0, ...other]],
    ["a table of four milliards", [1, 0, 255, 255, 255, 255, 0, 0, 0, 0]],
    ["a second table of four milliards", [1, 0, 0, 0, 0, 0, 255, 255, 255, 255]],
    ["a table with a count that wraps around", [1, 0, ...count(0x2aaaaa), 0, 0, 0, 0]],
  ])("%s is refused", (_, bytes) => {
    open();
    expect(rig.command(...bytes)).toBe(ERR);
    expect(rig.command(0, 0, 0)).toBe(OK);
  });

  test("is read wherever its segments are cut", () => {
    open();
    rig.command(0, 0, 0);
    const bytes = [1, 0, ...table([other], [group])];
    expect(rig.commandIn([1, 2, 3, 4, 5, 7], ...bytes)).toBe(OK);
    expect(reached(own, other, group, group2)).toEqual([0, 1, 2]);
  });

  test("without room for an answer is done, and comes back empty", () => {
    open();
    const address = rig.room(3);
    rig.ram.bytes(address, 3).set([0, 0, 0]);
    const driver = rig.drivers[2]!;
    const head = driver.offer([{ address, length: 3 }]);
    rig.backend.kicked(2);

    expect(driver.collect()).toEqual([{ head, written: 0 }]);
    expect(reached(own, other)).toEqual([0]);
  });

  test("after command is done, in turns", () => {
    open({ queueSize: 1024 });
    const driver = rig.drivers[2]!;
    const address = rig.room(4);
    rig.ram.bytes(address, 3).set([0, 0, 0]);
    for (let i = 0; i < 500; i++) {
      driver.offer([
        { address, length: 3 },
        { address: address + 3, length: 1, write: true },
      ]);
    }
    rig.backend.kicked(2);
    expect(driver.collect().length).toBe(256);
    rig.settle();
    expect(driver.collect().length).toBe(244);
    expect(rig.calls[2]).toBe(2);
  });
});
