/** The far ends of a character device: nothing is lost, nobody is waited for, and each trouble is told once. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ByteRing } from "../../../src/bus/byte-ring.ts";
import { EventRing } from "../../../src/bus/event-ring.ts";
import { EventKind } from "../../../src/bus/events.ts";
import { Open } from "../../../src/ffi/file.ts";
import { openPty } from "../../../src/ffi/terminal.ts";
import { listenUnix } from "../../../src/ffi/unix-socket.ts";
import { ConsolePort } from "../../../src/machine/console/port.ts";
import { RingInput, RingOutput } from "../../../src/machine/console/rings.ts";
import { TestWorker } from "../../devices/virtio/worker.ts";
import { leftOpen, openFiles } from "../proc.ts";
import {
  Console,
  close,
  connect,
  openPath,
  pipe,
  send,
  stopSending,
  take,
  text,
} from "./far-end.ts";

const MiB = 2 ** 20;
let work = "";
let filesBefore: string[] = [];
/** Undone after each test, last first; then no descriptor may be left. */
let undo: (() => void)[] = [];
const later = <T>(value: T, release: (value: T) => void): T => {
  undo.push(() => release(value));
  return value;
};

beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "chv-console-"));
  filesBefore = openFiles();
});
afterEach(() => {
  for (const release of undo.reverse()) release();
  undo = [];
  rmSync(work, { recursive: true });
  expect(leftOpen(filesBefore)).toEqual([]);
});

const made = (...parameters: ConstructorParameters<typeof Console>) =>
  later(new Console(...parameters), (console) => console.close());

/** Bytes that tell where they are. */
const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i ^ (i >> 8)) & 0xff);

describe("a socket", () => {
  const listening = () => {
    const path = join(work, "s");
    const listenFd = later(listenUnix(path, 1), close);
    return { path, console: made({ mode: "socket", listenFd }) };
  };
  const client = (path: string) => later(connect(path), close);

  test("carries output to its client and input from it", () => {
    const { path, console } = listening();
    const fd = client(path);
    console.settle();
    console.say("login: ");
    send(fd, "root\r");
    console.settle();

    expect(text(fd)).toBe("login: ");
    expect(console.typed()).toBe("root\r");
    expect(console.arrivals).toBe(1);
  });

  test("a late client gets the last 1 MiB, in order, and then what is new", () => {
    const { path, console } = listening();
    const said = pattern(MiB + 5000);
    console.say(said);
    console.settle();

    const fd = client(path);
    const got: Uint8Array[] = [];
    let total = 0;
    console.settle();
    console.say("new");
    while (total < MiB + 3) {
      console.turn();
      const part = take(fd);
      if (part === "end") break;
      got.push(part);
      total += part.length;
    }

    const expected = Buffer.concat([said.subarray(5000), Buffer.from("new")]);
    expect(Buffer.compare(Buffer.concat(got), expected)).toBe(0);
  });

  test("a second client waits until the first has gone", () => {
    const { path, console } = listening();
    const first = connect(path);
    console.settle();
    const second = client(path);
    console.say("one");
    console.settle();
    expect([text(first), text(second)]).toEqual(["one", ""]);

    close(first);
    console.settle();
    console.say("two");
    console.settle();
    expect(text(second)).toBe("two");
  });

  test("a client that only stops sending still gets output, until it goes", () => {
    const { path, console } = listening();
    const fd = connect(path);
    send(fd, "x");
    stopSending(fd);
    console.settle();
    console.say("still here");
    console.settle();
    expect(text(fd)).toBe("still here");
    expect(console.typed()).toBe("x");
    const before = console.pumps;
    expect(console.settle()).toBe(-1); // it sleeps: the end of input is no event that comes for ever
    expect(console.pumps - before).toBe(6);

    close(fd);
    console.settle();
    console.say("kept");
    console.settle();
    expect(text(client(path))).toBe("");
    console.settle();
    expect(console.events).toEqual([]);
  });

  test("a client that takes nothing for 5 s is detached; the guest's output is not lost", () => {
    const { path, console } = listening();
    const fd = client(path);
    console.settle();
    const said = pattern(600_000); // more than a socket's and the ring's room
    let at = 0;
    const fill = () => {
      while (at < said.length && console.output.push(said[at]!)) at++;
      console.turn();
    };
    for (let i = 0; i < 20; i++) fill();
    expect(console.output.ready).toBe(false); // the guest's transmitter is busy
    expect(at).toBeLessThan(said.length);

    console.clock.pass(4.9);
    console.settle();
    expect(console.events).toEqual([]);
    const some = take(fd, 100_000) as Uint8Array; // a sign of life: the five seconds begin anew
    for (let i = 0; i < 20; i++) fill();
    console.clock.pass(4.9);
    console.settle();
    expect(console.events).toEqual([]);
    console.clock.pass(0.2);
    console.settle();
    expect(console.events.map(({ kind, a, text }) => [kind, a, text])).toEqual([
      [EventKind.log, 1, "serial: the client took nothing for 5 s and was detached"],
    ]);

    while (at < said.length) fill();
    console.settle();
    const rest = take(fd) as Uint8Array; // what the kernel had for it
    expect(take(fd)).toBe("end");
    const next = client(path);
    const kept: Uint8Array[] = [];
    for (let i = 0; i < 20; i++) {
      console.turn();
      const part = take(next);
      if (part !== "end") kept.push(part);
    }
    expect(Buffer.compare(Buffer.concat([some, rest, ...kept]), said)).toBe(0);
    expect(console.events.length).toBe(1);
  });

  test("a client that has gone with output on its way loses its attachment, not the machine", () => {
    const { path, console } = listening();
    const fd = connect(path);
    console.settle();
    close(fd);
    console.say("into the void");
    console.settle();
    console.say("kept");
    const next = client(path);
    console.settle();

    expect(text(next)).toEndWith("kept");
    expect(console.events).toEqual([]);
  });

  test("input waits for the guest, and none of it is lost", () => {
    const { path, console } = listening();
    const fd = client(path);
    const typed = "0123456789".repeat(2000);
    console.settle();
    send(fd, typed);
    expect(console.settle()).toBe(10); // the ring is full: look again soon
    let got = "";
    for (let i = 0; i < 40; i++) {
      got += console.typed();
      console.turn();
    }

    expect(got).toBe(typed);
  });
});

describe("a pty", () => {
  const opened = () => {
    const { master, path } = openPty();
    later(master, close);
    return { path, console: made({ mode: "pty", outFd: master, inFd: master }) };
  };
  const client = (path: string) => openPath(path, Open.readWrite);
  /** Puts out more than a terminal takes that nobody reads; the kernel moves it from one of its buffers to the next. */
  const stuff = (console: Console) => {
    for (let full = 0; full < 20; full++) {
      for (; console.output.push(0x2e); full = 0);
      console.turn();
      Bun.sleepSync(1);
    }
  };
  /** Five seconds without a byte taken; again where the kernel was late and has taken some. */
  const starve = (console: Console) => {
    for (let tries = 0; console.events.length === 0 && tries < 1000; tries++) {
      stuff(console);
      console.clock.pass(5.1);
      console.turn();
    }
  };

  test("a late client gets what was said, byte for byte, and types as it likes", () => {
    const { path, console } = opened();
    console.say("line\nnext\r\n\x03\x11");
    expect(console.settle()).toBe(100); // a pty has no accept: it is looked at
    const fd = later(client(path), close);
    console.settle();
    send(fd, "a\nb\rc\x04");
    console.settle();

    expect(text(fd)).toBe("line\nnext\r\n\x03\x11");
    expect(console.typedAtLast(6)).toBe("a\nb\rc\x04");
    expect(text(fd)).toBe(""); // no echo
  });

  test("clients come and go; what is said in between waits for the next", () => {
    const { path, console } = opened();
    for (const words of ["one", "two", "three"]) {
      console.say(words);
      console.settle();
      const fd = client(path);
      console.settle();
      send(fd, words.toUpperCase());
      console.settle();
      expect(text(fd)).toBe(words);
      expect(console.typedAtLast(words.length)).toBe(words.toUpperCase());
      close(fd);
      console.settle();
    }
    expect(console.events).toEqual([]);
  });

  test("a client that comes right after another's end can type", () => {
    const { path, console } = opened();
    const first = client(path);
    console.settle();
    close(first);
    const second = later(client(path), close); // before the port has looked
    console.settle();
    send(second, "hello");
    console.settle();

    expect(console.typedAtLast(5)).toBe("hello");
  });

  test("a client that takes nothing for 5 s is detached", () => {
    const { path, console } = opened();
    later(client(path), close);
    console.settle();
    starve(console);

    expect(console.events.map(({ text }) => text)).toEqual([
      "serial: the client took nothing for 5 s and was detached",
    ]);
  });

  test("a client that was detached does not hold up the guest, and gets what was kept", () => {
    const { path, console } = opened();
    const slow = later(client(path), close);
    console.settle();
    starve(console);

    for (let i = 0; i < 5; i++) {
      while (console.output.push(0x2e));
      console.turn();
      expect(console.output.ready).toBe(true); // it still has not taken anything
      console.clock.pass(6);
    }
    console.say("last words");
    let seen = "";
    for (const fuse = Date.now() + 60_000; Date.now() < fuse && !seen.endsWith("last words"); ) {
      seen = (seen + text(slow)).slice(-20);
      console.turn();
    }

    expect(seen).toEndWith("last words");
    expect(console.events).toHaveLength(1);
  });
});

describe("by itself, without its device", () => {
  const ring = () => new SharedArrayBuffer(ByteRing.bytesFor(4096));
  const device = () => ({
    output: new RingOutput(ring()),
    input: new RingInput(ring()),
    inputArrived() {},
    transmitterReady() {},
  });
  const none = { outFd: -1, inFd: -1, listenFd: -1, escapeKeys: false, outBlocks: false };
  const events = () => new EventRing(new SharedArrayBuffer(EventRing.byteLength), 0);
  const worker = () => later(new TestWorker(), (one) => one.close());

  test("a pty finds its client", () => {
    const { master, path } = openPty();
    later(master, close);
    const waiter = worker();
    const ends = { ...none, outFd: master, inFd: master };
    const spec = { name: "serial", mode: "pty", ...ends } as const;
    const port = new ConsolePort(spec, device(), waiter, events());
    later(port, (one) => one.close());
    later(openPath(path, Open.readWrite), close);

    while (!port.present) expect(waiter.pump(10_000)).toBe(1);
  });

  test("a socket that cannot be accepted from is left alone for a while, and tried again", () => {
    const { read, write } = pipe(); // accept4(2) fails on it
    later(read, close);
    later(write, close);
    const waiter = worker();
    const spec = { name: "serial", mode: "socket", ...none, listenFd: read } as const;
    const port = new ConsolePort(spec, device(), waiter, events());
    later(port, (one) => one.close());
    send(write, "x");
    waiter.pump(10_000);
    expect(waiter.watching(read)).toBe(false);

    waiter.pump(10_000); // the timer
    expect(waiter.watching(read)).toBe(true);
  });
});

describe("standard output", () => {
  test("that nobody reads any more is told once, and the guest goes on", () => {
    const { read, write } = pipe();
    later(write, close);
    const console = made({ mode: "tty", outFd: write });
    console.say("before");
    console.settle();
    expect(text(read)).toBe("before");

    close(read);
    console.say("x".repeat(200_000));
    console.settle();

    expect(console.events.map(({ kind, text }) => [kind, text])).toEqual([
      [EventKind.outputLost, "serial: output is lost from here on: EPIPE"],
    ]);
    expect([console.output.length, console.output.ready, console.port.busy]).toEqual([
      0,
      true,
      false,
    ]);
  });

  test("that is slow makes the guest wait, for as long as it takes, and loses nothing", () => {
    const { read, write } = pipe();
    later(read, close);
    later(write, close);
    const console = made({ mode: "tty", outFd: write });
    const said = pattern(300_000);
    let at = 0;
    const got: Uint8Array[] = [];
    let waits = 0;
    for (let i = 0; i < 100 && got.length * 10_000 < said.length + 10_000; i++) {
      while (at < said.length && console.output.push(said[at]!)) at++;
      if (console.settle() === -1 && console.port.busy) waits++; // until an event comes
      console.clock.pass(60);
      const part = take(read, 10_000) as Uint8Array;
      if (part.length > 0) got.push(part);
    }

    expect(Buffer.compare(Buffer.concat(got), said)).toBe(0);
    expect(waits).toBeGreaterThan(0);
    expect(console.events).toEqual([]);
  });

  test("that is closed from the start swallows everything", () => {
    const console = made({ mode: "tty" });
    console.say("x".repeat(100_000));
    console.settle();

    expect(console.output.length).toBe(0);
    expect(console.events).toEqual([]);
  });
});

describe("a file", () => {
  test("gets every byte", () => {
    const path = join(work, "log");
    const outFd = later(openPath(path, Open.writeOnly | Open.create), close);
    const console = made({ mode: "file", outFd });
    const said = pattern(150_000);
    console.say(said);
    console.settle();

    expect(Buffer.compare(readFileSync(path), said)).toBe(0);
  });

  test("on a full disk is told once, and the guest goes on", () => {
    const outFd = later(openPath("/dev/full", Open.writeOnly), close);
    const console = made({ mode: "file", outFd });
    console.say("x".repeat(100_000));
    console.settle();
    console.say("y".repeat(100_000));
    console.settle();

    expect(console.events.map(({ kind, a, text }) => [kind, a, text])).toEqual([
      [EventKind.outputLost, 1, "serial: output is lost from here on: ENOSPC"],
    ]);
    expect(console.output.length).toBe(0);
  });
});

test("null takes everything at once", () => {
  const console = made({ mode: "null" });
  console.say("x".repeat(200_000));
  console.settle();

  expect([console.output.length, console.port.busy]).toEqual([0, false]);
});

test("a device whose push fails while the port is at work is told of the room", () => {
  const outFd = later(openPath("/dev/null", Open.writeOnly), close);
  let pending = 0;
  const console: Console = made(
    { mode: "file", outFd },
    {
      outputBytes: 16,
      onReady: () => {
        while (pending > 0 && console.output.push(0)) pending--;
      },
    },
  );
  for (let i = 0; i < 10; i++) console.output.push(0); // not full when the port begins
  pending = 100;
  for (let i = 0; i < 20; i++) console.turn();

  expect([pending, console.output.length]).toEqual([0, 0]);
});

test("a guest that never stops talking does not keep the worker", () => {
  const outFd = later(openPath("/dev/null", Open.writeOnly), close);
  const console: Console = made(
    { mode: "file", outFd },
    { outputBytes: 16, onReady: () => void console.output.push(0) },
  );
  console.output.push(0);

  expect(console.turn()).toBe(0); // call again at once, with other work in between
  expect(console.turn()).toBe(0);
});
