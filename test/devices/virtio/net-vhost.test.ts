/**
 * Queues that the kernel serves, with a vhost-net that only notes what it is told: what it is told is what
 * linux/vhost.h asks for. Frames move in test/e2e/net.test.ts, where there is a vhost-net.
 */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Epoll } from "../../../src/ffi/epoll.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { close } from "../../../src/ffi/file.ts";
import { SystemError } from "../../../src/ffi/libc.ts";
import { pollEvents } from "../../../src/ffi/poll.ts";
import type { VhostCall } from "../../../src/ffi/vhost.ts";
import { NetRig, type RigOptions, TapHome } from "./net-rig.ts";

const [vhost0, vhost1] = [1000, 1001];
const EINVAL = 22;
/** What the kernel's vhost-net offers: INDIRECT_DESC, EVENT_IDX, MRG_RXBUF, VERSION_1. */
const known = (1n << 28n) | (1n << 29n) | (1n << 15n) | (1n << 32n);
const accepted = 2 ** 15 + 2 ** 17 + 2 ** 22; // MRG_RXBUF, CTRL_VQ, MQ

const home = new TapHome();
afterAll(() => home.close());
let rig: NetRig;
const fds: number[] = [];
afterEach(() => {
  rig[Symbol.dispose]();
  for (const fd of fds.splice(0)) close(fd);
});

/** What vhost was told: "1000 VHOST_SET_VRING_NUM 0 64", 32-bit words in decimal. */
const told: string[] = [];
const ends = { base: 0, failing: "" };
const listen: VhostCall = (fd, request, argument) => {
  if (request.name === ends.failing) throw new SystemError(`ioctl(${request.name})`, EINVAL);
  if (typeof argument === "object") {
    if (request.name === "VHOST_GET_FEATURES") argument.view.setBigUint64(0, known, true);
    if (request.name === "VHOST_GET_VRING_BASE") argument.view.setUint32(4, ends.base, true);
    const words = new Int32Array(argument.buffer);
    told.push(`${fd} ${request.name} ${words.join(" ")}`);
  } else {
    told.push(`${fd} ${request.name}`);
  }
  return 0;
};

const eventfd = () => {
  fds.push(createEventfd());
  return fds.at(-1)!;
};
const ready = (fd: number) => pollEvents(fd, Epoll.in) !== 0;

interface Opened {
  readonly kickFds: readonly number[];
}
function open(options: RigOptions = {}): Opened {
  const pairs = options.pairs ?? 1;
  const kickFds = Array.from({ length: 2 * pairs + 1 }, eventfd);
  told.length = 0;
  ends.failing = "";
  rig = new NetRig({
    ...{ home, features: accepted, vhosts: [vhost0, vhost1].slice(0, pairs), kickFds, idle: true },
    ...options,
    calls: { vhost: listen },
  });
  for (const fd of kickFds) rig.watch(fd, Epoll.in, () => {}); // as the machine does
  rig.start();
  return { kickFds };
}
const toldOf = (name: string) =>
  told.filter((line) => line.includes(` ${name} `)).map((line) => line.split(" ").slice(2));
const words = (address: number) => [
  `${(address % 2 ** 32) | 0}`,
  `${Math.floor(address / 2 ** 32)}`,
];

describe("a start", () => {
  test("owns vhost once, before all else", () => {
    open();
    expect(told[0]).toBe("1000 VHOST_SET_OWNER");
    rig.backend.stop();
    rig.start();
    expect(told.filter((line) => line.endsWith("VHOST_SET_OWNER"))).toEqual([
      "1000 VHOST_SET_OWNER",
    ]);
  });

  test("passes on the features that vhost knows", () => {
    open();
    expect(toldOf("VHOST_SET_FEATURES")).toEqual([[`${2 ** 15}`, "0"]]);
  });

  test("tells where guest RAM is", () => {
    open();
    const [region] = rig.ram.regions;
    // one region; guest address, length, user address, flags
    expect(toldOf("VHOST_SET_MEM_TABLE")).toEqual([
      ["1", "0", "0", "0", `${region!.length}`, "0", ...words(region!.hostAddress), "0", "0"],
    ]);
  });

  test("tells of each ring, then runs it on the tap", () => {
    const { kickFds } = open({ queueSize: 32 });
    const { hostAddress } = rig.ram.regions[0]!;

    expect(toldOf("VHOST_SET_VRING_NUM")).toEqual([
      ["0", "32"],
      ["1", "32"],
    ]);
    expect(toldOf("VHOST_SET_VRING_BASE")).toEqual([
      ["0", "0"],
      ["1", "0"],
    ]);
    const rings = [0, 1].map((queue) => {
      const { desc, avail, used } = rig.drivers[queue]!;
      const at = (address: number) => words(hostAddress + address);
      return [`${queue}`, "0", ...at(desc), ...at(used), ...at(avail), "0", "0"];
    });
    expect(toldOf("VHOST_SET_VRING_ADDR")).toEqual(rings);
    expect(toldOf("VHOST_SET_VRING_KICK")).toEqual([
      ["0", `${kickFds[0]}`],
      ["1", `${kickFds[1]}`],
    ]);
    const tap = `${rig.spec.taps[0]}`;
    expect(toldOf("VHOST_NET_SET_BACKEND")).toEqual([
      ["0", tap],
      ["1", tap],
    ]);
    expect(told.findIndex((line) => line.includes("SET_BACKEND"))).toBe(told.length - 2);
  });

  test("leaves the kicks to vhost, and repeats those that were before it", () => {
    const { kickFds } = open();

    for (const fd of kickFds.slice(0, 2)) {
      expect(rig.worker.watching(fd)).toBe(false);
      expect(ready(fd)).toBe(true);
    }
    expect(rig.worker.watching(kickFds[2]!)).toBe(true); // the control queue's
  });

  test("after a pause goes on where vhost was; after a reset, at the start", () => {
    open();
    told.length = 0;
    ends.base = 7;
    rig.pause();
    rig.backend.stop();
    rig.start();

    expect(toldOf("VHOST_SET_VRING_BASE")).toEqual([
      ["0", "7"],
      ["1", "7"],
      ["0", "0"],
      ["1", "0"],
    ]);
  });
});

describe("calls", () => {
  test("go to the vector's eventfd where there is one", () => {
    const [receive, transmit] = [eventfd(), eventfd()];
    open({ callFds: [receive, transmit] });
    expect(toldOf("VHOST_SET_VRING_CALL")).toEqual([
      ["0", `${receive}`],
      ["1", `${transmit}`],
    ]);
  });

  test("are passed on by the worker where there is none", () => {
    open();
    const [receive, transmit] = toldOf("VHOST_SET_VRING_CALL").map(([, fd]) => Number(fd));
    expect(rig.calls).toEqual([0, 0, 0]);

    signalEventfd(transmit!);
    rig.settle();
    expect(rig.calls).toEqual([0, 1, 0]);
    signalEventfd(receive!);
    rig.settle();

    expect(rig.calls).toEqual([1, 1, 0]);
  });
});

describe("a stop", () => {
  test("takes the tap away, and asks where the queues stand", () => {
    open();
    told.length = 0;
    ends.base = 7;

    expect(rig.backend.stop()).toBe(true);

    expect(told).toEqual([
      "1000 VHOST_NET_SET_BACKEND 0 -1",
      "1000 VHOST_NET_SET_BACKEND 1 -1",
      "1000 VHOST_GET_VRING_BASE 0 7",
      "1000 VHOST_GET_VRING_BASE 1 7",
    ]);
    rig.backend.stop();
    expect(told.length).toBe(4);
  });
});

test("a ring that vhost finds broken costs the driver the device", () => {
  open();
  const [error] = toldOf("VHOST_SET_VRING_ERR").map(([, fd]) => Number(fd));
  told.length = 0;
  signalEventfd(error!);

  expect(() => rig.settle()).toThrow(GuestFault);

  expect(toldOf("VHOST_NET_SET_BACKEND")).toEqual([
    ["0", "-1"],
    ["1", "-1"],
  ]);
});

test.each(["VHOST_SET_OWNER", "VHOST_SET_MEM_TABLE", "VHOST_NET_SET_BACKEND"])(
  "%s that fails is a warning, not the end of the machine",
  (name) => {
    open();
    rig.backend.stop();
    rig[Symbol.dispose]();

    rig = new NetRig({
      ...{ home, features: accepted, vhosts: [vhost0], kickFds: [eventfd(), eventfd()] },
      ...{ calls: { vhost: listen }, idle: true },
    });
    ends.failing = name;
    rig.start();
    rig.backend.stop();

    expect(rig.worker.warnings[0]).toMatch(
      new RegExp(`^vhost-net does not (start|run): ioctl\\(${name}\\): EINVAL; no frames move$`),
    );
  },
);

test("pairs run and rest with the driver's command", () => {
  open({ pairs: 2 });
  const taps = rig.spec.taps.map(String);
  const backends = () =>
    told
      .filter((line) => line.includes("SET_BACKEND"))
      .map((line) => line.split(" ").toSpliced(1, 1));
  expect(backends()).toEqual([
    ["1000", "0", taps[0]!],
    ["1000", "1", taps[0]!],
  ]);
  told.length = 0;

  expect(rig.command(4, 0, 2, 0)).toBe(0);
  expect(rig.command(4, 0, 1, 0)).toBe(0);

  expect(backends()).toEqual([
    ["1001", "0", taps[1]!],
    ["1001", "1", taps[1]!],
    ["1001", "0", "-1"],
    ["1001", "1", "-1"],
  ]);
});

test("the worker moves no frames", () => {
  const { kickFds } = open();
  rig.post([[100]]);
  rig.host.send(new Uint8Array(60));
  rig.settle();
  expect(rig.received()).toEqual([]);
  expect(rig.worker.watching(rig.spec.taps[0]!)).toBe(false);
  for (const fd of kickFds) drainEventfd(fd);
});
