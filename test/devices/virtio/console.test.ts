/** The console device with one port (virtio 1.2 section 5.3), on far ends of every kind. */
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventKind } from "../../../src/bus/events.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { createEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { bytesToRead, Open, open } from "../../../src/ffi/file.ts";
import { openPty } from "../../../src/ffi/terminal.ts";
import { listenUnix } from "../../../src/ffi/unix-socket.ts";
import { storeSize } from "../../../src/machine/console/size.ts";
import { close, connect, openPath, pipe, send, take, text } from "../../machine/console/far-end.ts";
import { leftOpen, openFiles } from "../../machine/proc.ts";
import { ConsoleRig, SIZE } from "./console-rig.ts";

const MiB = 2 ** 20;
let work = "";
let filesBefore: string[] = [];
let undo: (() => void)[] = [];
const later = <T>(value: T, release: (value: T) => void): T => {
  undo.push(() => release(value));
  return value;
};

beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "chv-hvc-"));
  filesBefore = openFiles();
});
afterEach(() => {
  for (const release of undo.reverse()) release();
  undo = [];
  rmSync(work, { recursive: true });
  expect(leftOpen(filesBefore)).toEqual([]);
});

const made = (...parameters: ConstructorParameters<typeof ConsoleRig>) =>
  later(new ConsoleRig(...parameters), (rig) => rig.close());
const ends = () => {
  const { read, write } = pipe();
  later(read, close);
  later(write, close);
  return { read, write };
};
const listening = () => {
  const path = join(work, "s");
  const listenFd = later(listenUnix(path, 1), close);
  return { path, rig: made([{ mode: "socket", listenFd }]) };
};
const client = (path: string) => later(connect(path), close);
const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i ^ (i >> 8)) & 0xff);

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
    const path = join(work, "log");
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

describe("input", () => {
  test("goes into the driver's buffers, wherever they are cut, as it comes", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", inFd: read }]);
    const [a, b, c] = [0x20_0000, 0x20_1000, 0x20_2000];
    rig.drivers[0]!.offer([
      { address: a, length: 3 },
      { address: b, length: 2, write: true },
      { address: c, length: 4, write: true },
    ]);
    rig.room(100);
    send(write, "abc");
    rig.settle();
    send(write, "defghi");
    rig.settle();

    const used = rig.drivers[0]!.collect();
    expect(used.map(({ written }) => written)).toEqual([3, 6]);
    expect(Buffer.from(rig.ram.bytes(b, 2)).toString()).toBe("ab");
    expect(rig.ram.bytes(c, 1)[0]).toBe(0x63);
    expect(rig.calls[0]).toBe(2);
    expect([...rig.counters]).toEqual([2, 9, 0, 0]);
  });

  test("waits at the far end until the driver has buffers; none of it is lost", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", inFd: read }]);
    send(write, "0123456789");
    rig.settle();
    expect(bytesToRead(read)).toBe(10);

    let got = "";
    for (let i = 0; i < 5; i++) {
      rig.room(3);
      rig.settle();
      got += rig.arrived().join("");
    }

    expect(got).toBe("0123456789");
    expect(rig.worker.pump()).toBe(0); // asleep, not spinning on the last buffer
  });

  test("of more than one buffer fills each in turn", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", inFd: read }]);
    send(write, "abcdefgh");
    for (let i = 0; i < 4; i++) rig.room(3);
    rig.settle();

    expect(rig.arrived()).toEqual(["abc", "def", "gh"]);
  });

  test("the escape key works although the guest takes nothing, and what was typed is not lost", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", inFd: read, escapeKeys: true }]);
    send(write, "abc\x01c\x01x");
    rig.settle();

    expect(rig.events.map(({ kind }) => kind)).toEqual([EventKind.quit]);
    rig.room(2);
    rig.room(100);
    rig.settle();
    expect(rig.arrived()).toEqual(["ab", "c\x01c"]);
  });

  test("of a file, which cannot be waited on, comes a few buffers at a time, to its end", () => {
    const file = join(work, "input");
    writeFileSync(file, "0123456789".repeat(9));
    const inFd = later(openPath(file, Open.readOnly), close);
    const rig = made([{ mode: "tty", inFd }]);
    for (let i = 0; i < 30; i++) {
      const buffer = { address: 0x20_0000 + i * 16, length: 3, write: true };
      rig.drivers[0]!.offer([buffer]);
    }
    rig.backend.kicked(0);
    expect(rig.drivers[0]!.collect().length).toBe(16);
    rig.settle();

    expect(rig.drivers[0]!.collect().length).toBe(14);
    expect(rig.worker.pump()).toBe(0);
  });

  test("of keys that the guest does not take is kept up to a limit, and the escape key works", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", inFd: read, escapeKeys: true }]);
    send(write, "k".repeat(6000));
    rig.settle();
    send(write, "\x01x");
    rig.settle();
    expect(rig.events.map(({ kind }) => kind)).toEqual([EventKind.quit]);

    rig.room(8000);
    rig.settle();
    expect(rig.arrived()).toEqual(["k".repeat(4096)]);
  });

  test("a client that goes while the guest takes no input makes room for the next", () => {
    const { path, rig } = listening();
    const first = connect(path);
    rig.settle();
    close(first);
    rig.settle();
    rig.say("for the second");
    const second = client(path);
    rig.settle();

    expect(text(second)).toBe("for the second");
    expect(rig.worker.pump()).toBe(0);
  });

  test("what a client sent before it went reaches the guest", () => {
    const { path, rig } = listening();
    const first = connect(path);
    send(first, "last words");
    rig.settle();
    close(first);
    rig.settle();
    expect(rig.worker.pump()).toBe(0); // its hang-up is no event that comes for ever
    rig.room(100);
    rig.settle();

    expect(rig.arrived()).toEqual(["last words"]);
    rig.say("x");
    expect(text(client(path))).toBe("");
  });
});

describe("a reset", () => {
  test("of the device takes along what was put out; it goes out in order, and then what is new", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write }]);
    const said = pattern(200_000);
    rig.say(said, 0, [150_000]);
    rig.offer("never kicked");
    const first = take(read) as Uint8Array;

    expect(rig.backend.stop()).toBe(true);
    rig.ram.bytes(0, 0x80_0000).fill(0);
    rig.start();
    rig.say("new");
    const got: Uint8Array[] = [first];
    for (let total = first.length; total < 200_015; ) {
      rig.settle();
      const part = take(read) as Uint8Array;
      got.push(part);
      total += part.length;
    }

    const expected = Buffer.concat([said, Buffer.from("never kickednew")]);
    expect(Buffer.compare(Buffer.concat(got), expected)).toBe(0);
  });

  test("goes on writing by itself what it took along", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write }]);
    rig.offer("never kicked");
    rig.backend.stop();
    rig.settle();

    expect(text(read)).toBe("never kicked");
  });

  test("takes along what was put out with nobody there", () => {
    const { path, rig } = listening();
    rig.offer("never kicked");
    rig.backend.stop();
    const fd = client(path);
    rig.settle();

    expect(text(fd)).toBe("never kicked");
  });

  test("with a broken ring is a reset all the same", () => {
    const rig = made([{ mode: "tty", outFd: ends().write }]);
    rig.drivers[1]!.offer([{ address: 0x9000_0000, length: 4 }]);

    expect(rig.backend.stop()).toBe(true);
  });

  test("for good is followed by a farewell, until the far end has everything", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write }]);
    const said = pattern(200_000);
    rig.say(said);
    rig.backend.stop();
    expect(rig.backend.farewell()).toBe(true);

    const got: Uint8Array[] = [];
    do got.push(take(read) as Uint8Array);
    while (rig.backend.farewell());
    got.push(take(read) as Uint8Array);

    expect(Buffer.compare(Buffer.concat(got), said)).toBe(0);
  });

  test("with more than 1 MiB that nobody took tells that output is lost", () => {
    const { write } = ends();
    const rig = made([{ mode: "tty", outFd: write }]);
    const lost = "end0: output is lost beyond 1 MiB that waited at a reset";
    rig.say(pattern(2 * MiB));
    rig.backend.stop();
    expect(rig.texts).toEqual([]);
    rig.start();
    expect(rig.texts).toEqual([lost]);

    rig.say(pattern(2 * MiB));
    rig.backend.stop();
    for (let i = 0; i < 3; i++) rig.backend.farewell();
    expect(rig.texts).toEqual([lost, lost]);
  });

  test("loses nothing that nobody wants", () => {
    const rig = made([{ mode: "null" }]);
    rig.offer("never kicked");
    rig.backend.stop();
    rig.start();

    expect(rig.texts).toEqual([]);
  });

  test("leaves input at the far end until the driver is back", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", inFd: read }]);
    rig.room(100);
    rig.backend.stop();
    send(write, "later");
    rig.settle();
    expect(rig.worker.pump()).toBe(0);
    rig.start();
    rig.room(100);
    rig.settle();

    expect(rig.arrived()).toEqual(["later"]);
  });
});

describe("a pause", () => {
  test("in the midst of a chain loses nothing, and says nothing twice", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", outFd: write }]);
    const said = pattern(3 * MiB);
    rig.say(said, 0, [100, MiB]);
    rig.say("last");
    const got: Uint8Array[] = [];
    let total = 0;
    for (let turn = 0; total < said.length + 4; turn++) {
      if (turn % 5 === 4) {
        rig.backend.stop();
        rig.resume();
      }
      rig.settle();
      const part = take(read) as Uint8Array;
      got.push(part);
      total += part.length;
    }

    const expected = Buffer.concat([said, Buffer.from("last")]);
    expect(Buffer.compare(Buffer.concat(got), expected)).toBe(0);
    expect(rig.said()).toBe(2);
    expect(rig.texts).toEqual([]);
  });

  test("holds input back, and buffers that were in hand are used afterwards", () => {
    const { read, write } = ends();
    const rig = made([{ mode: "tty", inFd: read }]);
    rig.room(8);
    rig.room(8);
    rig.backend.stop();
    send(write, "0123456789");
    rig.settle();
    expect(rig.arrived()).toEqual([]);
    rig.resume();
    rig.settle();

    expect(rig.arrived()).toEqual(["01234567", "89"]);
  });
});

test("a broken ring is the driver's fault; what came before it has gone out", () => {
  const { read, write } = ends();
  const rig = made([{ mode: "tty", outFd: write }]);
  rig.offer("good");
  rig.drivers[1]!.offer([{ address: 0x9000_0000, length: 4 }]);

  expect(() => rig.backend.kicked(1)).toThrow(GuestFault);
  expect(text(read)).toBe("good");
  expect(rig.said()).toBe(1);
  expect(rig.backend.stop()).toBe(true);
  rig.start();
  rig.say("again");
  expect(text(read)).toBe("again");
});

test("a buffer in persistent memory, which may have nothing behind it, is the driver's fault", () => {
  const rig = made([{ mode: "null" }]);
  const at = 0x1_0000_0000;
  rig.usePersistent(at);
  rig.drivers[1]!.offer([{ address: at, length: 8 }]);

  expect(() => rig.backend.kicked(1)).toThrow(GuestFault);
});

test("queues that the driver left out cost nothing", () => {
  const { read, write } = ends();
  const rig = made([{ mode: "tty", outFd: write, inFd: read }]);
  rig.backend.stop();
  rig.backend.start([undefined, undefined], 0n);
  send(write, "x");
  rig.settle();

  for (const queue of [0, 1]) expect(() => rig.backend.kicked(queue)).not.toThrow();
});

describe("the size of a terminal", () => {
  /** A console on a terminal of 80 by 25 whose size the test changes. */
  const sized = (features: bigint) => {
    const size = { word: new SharedArrayBuffer(4), fd: later(createEventfd(), close) };
    const rig = made([{ mode: "tty", size }], features, {
      terminal: { port: 0, columns: 80, rows: 25 },
    });
    const resize = (columns: number, rows: number) => {
      storeSize(size, { columns, rows });
      signalEventfd(size.fd);
      rig.settle();
    };
    const read = () => {
      const view = new DataView(rig.config.buffer);
      return [view.getUint16(0, true), view.getUint16(2, true)]; // cols, rows (section 5.3.4)
    };
    return { rig, resize, read };
  };

  test("is told at the start and at each change, by a change of configuration", () => {
    const { rig, resize, read } = sized(SIZE);
    expect(read()).toEqual([80, 25]);
    expect(rig.worker.configChanges).toBe(1);

    resize(300, 65535);
    expect(read()).toEqual([300, 65535]);
    expect(rig.worker.configChanges).toBe(2);

    rig.backend.stop();
    resize(100, 40);
    expect(rig.worker.configChanges).toBe(2); // nobody is there to tell
    rig.config.fill(0); // as a reset of the machine does
    rig.start();
    expect(read()).toEqual([100, 40]);
    expect(rig.worker.configChanges).toBe(3);

    rig.backend.stop();
    resize(90, 40);
    rig.resume();
    expect(read()).toEqual([90, 40]);
    expect(rig.worker.configChanges).toBe(4);
  });

  test("is not told to a driver that does not want it", () => {
    const { rig, resize } = sized(0n);
    resize(300, 100);

    expect(rig.worker.configChanges).toBe(0);
  });

  test("is told again after output, for a driver that was not ready for it; not for ever", () => {
    const { rig } = sized(SIZE);
    rig.settle();
    expect(rig.worker.configChanges).toBe(1);
    rig.say("x");
    while (rig.worker.configChanges === 1) rig.settle(1000);
    rig.settle();
    expect(rig.worker.configChanges).toBe(2);
    expect(rig.worker.pump()).toBe(0); // no output, no news
  });
});
