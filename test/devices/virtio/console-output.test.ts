/** Output of a console with one port (virtio 1.2 section 5.3), to far ends of every kind. */
import { describe, expect, spyOn, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { Open, open } from "../../../src/ffi/file.ts";
import { openPty } from "../../../src/ffi/terminal.ts";
import { close, openPath, pipe, take, text } from "../../machine/console/far-end.ts";
import {
  cleanAfterEach,
  client,
  ends,
  inFolder,
  later,
  listening,
  made,
  pattern,
} from "./console-tests.ts";

const MiB = 2 ** 20;
cleanAfterEach();

describe("output", () => {
  test("goes to the far end from wherever the driver has it, in order, and comes back", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write }]);

    rig.offer("one ");
    rig.say("two, in pieces", 0, [1, 4, 2]);

    expect(text(read)).toBe("one two, in pieces");
    expect(rig.drivers[1]!.collect().map(({ written }) => written)).toEqual([0, 0]);
    expect(rig.calls[1]).toBe(1); // one interrupt for both
    expect(rig.drivers[1]!.noNotify).toBe(false);
    expect([...rig.counters]).toEqual([0, 0, 2, 18]);
  });

  test("that nobody takes now stays with the driver, and goes on when there is room", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write }]);
    const said = pattern(300_000);

    rig.say(said, 0, [100_000, 7, 50_000]);
    rig.say("last");
    rig.settle();
    expect(rig.said()).toBe(0);
    expect(rig.drivers[1]!.noNotify).toBe(true); // it need not kick for what waits

    const got: Uint8Array[] = [];
    for (let total = 0; total < said.length + 4; ) {
      const part = take(read) as Uint8Array;
      got.push(part);
      total += part.length;
      rig.settle();
    }
    const expected = Buffer.concat([said, Buffer.from("last")]);
    expect(Buffer.compare(Buffer.concat(got), expected)).toBe(0);
    expect(rig.said()).toBe(2);
    expect(rig.texts).toEqual([]);
  });

  test("goes into a file, byte for byte", () => {
    const path = inFolder("log");
    const outFd = later(openPath(path, Open.writeOnly | Open.create), close);
    const rig = made([{ mode: "file", outFd }]);
    const said = pattern(700_000); // more than a turn

    rig.say(said, 0, [1, 65_536, 300_000]);
    rig.settle();

    expect(Buffer.compare(readFileSync(path), said)).toBe(0);
    expect(rig.said()).toBe(1);
  });

  test("to nowhere is taken at once, also a huge chain's", () => {
    const rig = made([{ mode: "null" }]);

    rig.say(pattern(MiB));
    rig.say("x");
    rig.settle();

    expect(rig.said()).toBe(2);
    expect(rig.backend.farewell()).toBe(false);
  });

  test("from a driver that never stops leaves the worker time for others", () => {
    const rig = made([{ mode: "null" }]);
    rig.ram.bytes(0x70_0000, 0x2000).fill(0x2e);
    const huge = { address: 0x40_0000, length: 0x20_0000 };
    for (let i = 0; i < 4; i++) rig.drivers[1]!.offer([huge]);

    rig.backend.kicked(1);
    expect(rig.said()).toBe(1);
    rig.settle();

    expect(rig.said()).toBe(3);
  });

  test("of empty chains without end leaves the worker time for others", () => {
    const rig = made([{ mode: "null" }]);
    const driver = rig.drivers[1]!;
    const head = driver.offer([{ address: 0x10_0000, length: 0 }]);
    // as a driver on another processor: for each that comes back there is one more
    const complete = Virtqueue.prototype.complete;
    let times = 0;
    const spy = spyOn(Virtqueue.prototype, "complete").mockImplementation(function (
      this: Virtqueue,
      ...chain
    ) {
      if (times++ > 10_000) throw new Error("test: for ever");
      driver.publish(head);
      complete.apply(this, chain);
    });
    rig.backend.kicked(1);
    spy.mockRestore();

    expect(times).toBe(64);
  });

  test("of no bytes comes back", () => {
    const rig = made([{ mode: "null" }]);
    rig.drivers[1]!.offer([{ address: 0x10_0000, length: 4, write: true }]);
    rig.drivers[1]!.offer([{ address: 0x10_0000, length: 0 }]);

    rig.backend.kicked(1);

    expect(rig.said()).toBe(2);
    expect(rig.calls[1]).toBe(1);
  });

  test("on a descriptor that may block goes in small pieces, and never waits", () => {
    const { read, write } = ends();
    const flags = Open.writeOnly | Open.noControllingTerminal;
    const blocking = later(open(`/proc/self/fd/${write}`, flags), close);
    const rig = made([{ mode: "tty", outFd: blocking, outBlocks: true }]);
    const said = pattern(200_000);
    rig.say(said);
    const got: Uint8Array[] = [];
    for (let total = 0; total < said.length; ) {
      rig.settle();
      const part = take(read) as Uint8Array;
      got.push(part);
      total += part.length;
    }

    expect(Buffer.compare(Buffer.concat(got), said)).toBe(0);
  });

  test("that a far end is gone for is told of once, and the guest goes on", () => {
    const { read, write } = pipe();
    later(write, close);
    const rig = made([{ mode: "tty", outFd: write }]);
    close(read);

    for (let i = 0; i < 3; i++) rig.say("lost");

    expect(rig.said()).toBe(3);
    expect(rig.texts).toEqual(["end0: output is lost from here on: EPIPE"]);
  });

  test("waits for a late client of a socket, and of a pty", () => {
    const { path, rig } = listening();
    rig.say("the boot");
    rig.settle();
    expect(rig.said()).toBe(1);
    const fd = client(path);
    rig.settle();
    rig.say(", and on");
    expect(text(fd)).toBe("the boot, and on");

    const { master, path: slave } = openPty();
    later(master, close);
    const other = made([{ mode: "pty", outFd: master, inFd: master }]);
    other.say("the boot");
    const screen = later(openPath(slave, Open.readWrite), close);
    for (let i = 0; i < 100 && text(screen) !== "the boot"; i++) other.settle(1000);
    other.say("next");
    expect(text(screen)).toBe("next");
  });

  test("that a client does not take makes the guest wait, for 5 s", () => {
    const { path, rig } = listening();
    const slow = client(path);
    rig.settle();
    const said = pattern(600_000);
    rig.say(said);
    rig.settle();
    expect(rig.said()).toBe(0);

    rig.clock.pass(5.1);
    rig.backend.kicked(1);
    rig.settle();

    expect(rig.said()).toBe(1);
    expect(rig.texts).toEqual(["end0: the client took nothing for 5 s and was detached"]);
    const first = take(slow) as Uint8Array;
    const rest: Uint8Array[] = [first];
    const next = client(path);
    for (let total = first.length; total < said.length; ) {
      rig.settle();
      const part = take(next) as Uint8Array;
      rest.push(part);
      total += part.length;
    }
    expect(Buffer.compare(Buffer.concat(rest), said)).toBe(0);
  });
});

describe("output in small pieces, each of which the guest waits for", () => {
  test("is taken at once, and written together a moment later", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write, gathers: true }]);

    for (const piece of ["one ", "two ", "three"]) rig.say(piece);
    expect([rig.said(), text(read)]).toEqual([3, ""]);

    rig.settle(1000);
    expect(text(read)).toBe("one two three");
  });

  test("goes before a large one, in order", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write, gathers: true }]);

    rig.say("small ");
    rig.say("large ".repeat(100));

    expect([rig.said(), text(read)]).toEqual([2, `small ${"large ".repeat(100)}`]);
  });

  test("is not taken without end by a far end that takes nothing", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write, gathers: true }]);
    const full = pattern(200_000);
    rig.say(full);
    let [taken, said] = [0, 0];
    for (; said < 60; said++) {
      rig.say(`${said},`);
      taken += rig.said();
    }
    expect(taken).toBe(0);

    let heard = Buffer.alloc(0);
    while (!heard.toString("latin1").endsWith("59,")) {
      const part = take(read);
      if (part !== "end") heard = Buffer.concat([heard, part]);
      rig.settle(5);
    }
    const all = Array.from({ length: said }, (_, i) => `${i},`).join("");
    expect(Buffer.compare(heard.subarray(0, full.length), full)).toBe(0);
    expect(heard.toString("latin1", full.length)).toBe(all);
  });

  test("is written before the machine stands still, and before it ends", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write, gathers: true }]);

    rig.say("paused");
    rig.backend.stop();
    expect(text(read)).toBe("paused");

    rig.resume();
    rig.say("ended");
    rig.backend.farewell();
    expect(text(read)).toBe("ended");
  });

  test("of many bytes is written as it comes", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write, gathers: true }]);
    const line = "0123456789abcde\n";
    for (let i = 0; i < 1000; i++) {
      rig.say(line);
      rig.drivers[1]!.collect();
    }
    rig.settle(1000);

    expect(text(read)).toBe(line.repeat(1000));
  });
});
