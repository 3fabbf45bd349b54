/** A network device whose host looks for its work itself, and asks for kicks before it sleeps. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { writeFrame } from "../../../src/ffi/tap.ts";
import { NetRig, type RigOptions, TapHome } from "./net-rig.ts";

const home = new TapHome();
afterAll(() => home.close());
let rig: NetRig;
const open = (options: RigOptions = {}) => {
  rig = new NetRig({ home, polls: true, eventIndex: true, ...options });
};
afterEach(() => rig[Symbol.dispose]());

/** Ethernet of a type for experiments (0x88b5), with a number. */
const frame = (number: number, length = 60) => {
  const bytes = new Uint8Array(length).fill(number);
  bytes.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
  return bytes;
};
const [rx, tx] = [0, 1] as const;
const { poll, sleep } = {
  poll: () => rig.backend.poll(),
  sleep: () => rig.backend.sleep(),
};
const frames = () => rig.received().map((one) => one.frame);

test("what a driver offers is found without a kick, and kicks are asked for before sleep alone", () => {
  open();
  rig.offer(frame(1));
  rig.offer(frame(2));

  expect(poll()).toBe(true);
  expect(rig.arrived()).toEqual([frame(1), frame(2)]);
  expect(poll()).toBe(false);
  expect(rig.drivers[tx]!.availEvent).toBe(0);

  expect(sleep()).toBe(true);
  // the index behind the last chain (virtio 1.2 section 2.7.10)
  expect(rig.drivers[tx]!.availEvent).toBe(2);
  rig.offer(frame(3));
  expect(sleep()).toBe(false);
  expect(poll()).toBe(true);
  expect(rig.arrived()).toEqual([frame(3)]);
});

test("a frame is found, and so are the buffers that it waits for", () => {
  open();
  expect(sleep()).toBe(true);
  rig.host.send(frame(1));
  expect(poll()).toBe(false);

  rig.post([[2000], [2000]], 0, false);
  expect(rig.drivers[rx]!.availEvent).toBe(0);
  expect(sleep()).toBe(false);
  expect(poll()).toBe(true);
  expect(frames()).toEqual([frame(1)]);
  expect(poll()).toBe(false);

  rig.host.send(frame(2));
  expect(poll()).toBe(true);
  expect(frames()).toEqual([frame(2)]);
});

test("what is left of a turn needs no timer", () => {
  open({ queueSize: 256 });
  for (let i = 0; i < 200; i++) rig.offer(frame(i));

  expect(poll()).toBe(true);
  const first = rig.arrived().length;
  expect(first).toBeLessThan(200);
  expect(sleep()).toBe(false);
  while (poll());

  expect(first + rig.arrived().length).toBe(200);
  expect(sleep()).toBe(true);
  expect(rig.worker.pump()).toBe(0);
});

test("who waits for tokens is not looked at again and again", () => {
  open({ transmitLimit: { ops: { size: 1, oneTimeBurst: 0, refillMs: 3_600_000 } } });
  rig.offer(frame(1));
  rig.offer(frame(2));

  expect(poll()).toBe(true);
  expect(rig.arrived()).toEqual([frame(1)]);
  expect([poll(), poll(), sleep()]).toEqual([false, false, true]);
});

test("a frame longer than any that is expected is dropped, and all that come later are whole", () => {
  const [MRG_RXBUF, CTRL_VQ] = [1 << 15, 1 << 17];
  open({ features: MRG_RXBUF | CTRL_VQ });
  rig.namespace.command("ip", "link", "set", rig.tap, "mtu", "4000");
  rig.post([[1536], [1536], [1536], [1536], [1536], [1536]], 0, false);
  for (const number of [1, 2, 3]) rig.host.send(frame(number, 3000));
  while (poll());
  rig.namespace.command("ip", "link", "set", rig.tap, "mtu", "1500");

  expect(frames()).toEqual([frame(2, 3000), frame(3, 3000)]);
  expect(rig.counters[4]).toBe(1);
});

test("a driver hears of the frames of a long turn before the last is sent", () => {
  const told: number[] = [];
  open({
    queueSize: 256,
    calls: {
      writeFrame: (fd, iovecs, count) => {
        told.push(rig.ram.view(rig.drivers[tx]!.used + 2, 2).getUint16(0, true));
        return writeFrame(fd, iovecs, count);
      },
    },
  });
  for (let i = 0; i < 120; i++) rig.offer(frame(i));
  poll();

  expect(told.length).toBe(120);
  expect(told.at(-1)).toBeGreaterThan(50);
});
