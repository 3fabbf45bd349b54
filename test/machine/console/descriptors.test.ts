/** Ports on descriptors that this process has open, as `chv run` uses them. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { close } from "../../../src/ffi/file.ts";
import { libc } from "../../../src/ffi/libc.ts";
import { socketPair } from "../../../src/ffi/unix-socket.ts";
import { openConsole } from "../../../src/machine/console/open.ts";
import { leftOpen, openFiles } from "../proc.ts";
import { Console, pipe, send, stopSending, take, text } from "./far-end.ts";

let before: string[] = [];
let undo: (() => void)[] = [];
beforeEach(() => {
  before = openFiles();
});
afterEach(() => {
  for (const release of undo.reverse()) release();
  undo = [];
  expect(leftOpen(before)).toEqual([]);
});

/** A port on one end of a pair of sockets; the other end is the test's. */
function portOn(ways: { in?: boolean; out?: boolean }) {
  const [theirs, ours] = socketPair();
  const fds = { ...(ways.in && { in: theirs }), ...(ways.out && { out: theirs }) };
  const end = openConsole("--port p", { mode: "Null", fds })!;
  close(theirs); // it has its own
  const console = new Console(end.spec);
  undo.push(() => end.close());
  undo.push(() => console.close());
  undo.push(() => close(ours));
  return { console, ours };
}

test("bytes go both ways", () => {
  const { console, ours } = portOn({ in: true, out: true });
  send(ours, "typed");
  console.say("said");
  console.settle();

  expect([text(ours), console.typed(), console.port.present]).toEqual(["said", "typed", true]);
});

test("one for input is there until the input ends, and gives all of it first", () => {
  const { console, ours } = portOn({ in: true });
  send(ours, "last words");
  expect(console.port.present).toBe(true);
  stopSending(ours);
  console.settle();

  expect([console.typed(), console.port.present]).toEqual(["last words", false]);
});

test("one for both stays when its input ends", () => {
  const { console, ours } = portOn({ in: true, out: true });
  stopSending(ours);
  console.settle();
  console.say("still here");
  console.settle();

  expect([text(ours), console.port.present]).toEqual(["still here", true]);
});

test("a reader that takes its time is waited for, however long", () => {
  const { console, ours } = portOn({ out: true });
  const many = 300_000;
  let [said, heard] = [0, 0];
  while (said < many && console.output.push(said & 0xff)) said++;
  for (let turn = 0; turn < 100; turn++) {
    console.turn();
    while (said < many && console.output.push(said & 0xff)) said++;
  }
  console.clock.pass(60);
  console.settle();
  expect(said).toBeLessThan(many); // nobody has read, so it is held up

  while (heard < many) {
    const part = take(ours);
    if (part === "end") break;
    for (const byte of part) if (byte !== (heard++ & 0xff)) throw new Error(`at ${heard - 1}`);
    console.turn();
    while (said < many && console.output.push(said & 0xff)) said++;
  }
  expect([heard, console.events]).toEqual([many, []]);
});

// asm-generic/fcntl.h, linux/fcntl.h
const [F_SETFL, F_SETPIPE_SZ] = [4, 1031];
/** What is said at once: less than a turn, and than these sockets and pipes hold. */
const saidAtOnce = 150_000;

test.each([
  ["socket", () => socketPair()],
  [
    "pipe",
    () => {
      const { read, write } = pipe();
      libc.fcntl(write, F_SETPIPE_SZ, 2 ** 20);
      return [write, read] as const;
    },
  ],
])("a %s that may block takes much at once, and is never waited for", (_, make) => {
  const [theirs, ours] = make();
  libc.fcntl(theirs, F_SETFL, 0); // no O_NONBLOCK, as others' descriptors are
  const end = openConsole("--port p", { mode: "Null", fds: { out: theirs } })!;
  close(theirs);
  const console = new Console(end.spec, { outputBytes: 2 ** 20 });
  undo.push(() => end.close());
  undo.push(() => console.close());
  undo.push(() => close(ours));
  for (let i = 0; i < saidAtOnce; i++) console.output.push(i & 0xff);
  console.port.pump();
  const heard = take(ours);

  expect(heard).toHaveLength(saidAtOnce);
  for (let i = 0; i < 2 ** 20; i++) console.output.push(0);
  for (let turn = 0; turn < 20; turn++) console.turn();
  for (let i = 0; i < 2 ** 20 && console.output.push(0); i++);
  for (let turn = 0; turn < 20; turn++) console.turn();
  expect(console.output.length).toBeGreaterThan(0);
});
