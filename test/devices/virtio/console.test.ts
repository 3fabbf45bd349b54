/** The console device with one port (virtio 1.2 section 5.3): input, resets, pauses, the size of a terminal. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { EventKind } from "../../../src/bus/events.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { createEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { bytesToRead, Open } from "../../../src/ffi/file.ts";
import { storeSize } from "../../../src/machine/console/size.ts";
import { close, connect, openPath, send, take, text } from "../../machine/console/far-end.ts";
import { SIZE } from "./console-rig.ts";
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
    const file = inFolder("input");
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
