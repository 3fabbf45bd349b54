/** Input on its way to the guest: the escape key, files and pipes that end, a full ring. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventKind } from "../../../src/bus/events.ts";
import { Open } from "../../../src/ffi/file.ts";
import { Console, close, openPath, pipe, send } from "./far-end.ts";

/** Types pieces one after another; what the guest got, and whether the user quit. */
function type(pieces: readonly string[], escapeKeys = true): { typed: string; quits: number } {
  const { read, write } = pipe();
  const console = new Console({ mode: "tty", inFd: read, escapeKeys });
  for (const piece of pieces) {
    send(write, piece);
    console.settle();
  }
  const quits = console.events.filter(({ kind }) => kind === EventKind.quit).length;
  const typed = console.typed();
  for (const fd of [read, write]) close(fd);
  console.close();
  return { typed, quits };
}

const a = "\x01"; // Ctrl-A

test.each([
  ["nothing special", ["ls\r"], "ls\r", 0],
  ["Ctrl-A x", [`${a}x`], "", 1],
  ["Ctrl-A x in two pieces", [a, "x"], "", 1],
  ["Ctrl-A Ctrl-A", [`${a}${a}`], a, 0],
  ["Ctrl-A Ctrl-A x", [`${a}${a}x`], `${a}x`, 0],
  ["Ctrl-A and another key", [`${a}c`, "d"], `${a}cd`, 0],
  ["Ctrl-A X", [`${a}X`], `${a}X`, 0],
  ["Ctrl-A alone", [a], "", 0],
  ["text around the escape", [`one${a}xtwo`], "onetwo", 1],
])("%s", (_, pieces, typed, quits) => {
  expect(type(pieces)).toEqual({ typed, quits });
});

test("without a person at the terminal the escape key is a byte like any other", () => {
  expect(type([`${a}x${a}${a}`], false)).toEqual({ typed: `${a}x${a}${a}`, quits: 0 });
});

test("the end of piped input is no error, and output goes on", () => {
  const { read, write } = pipe();
  const out = pipe();
  const console = new Console({ mode: "tty", inFd: read, outFd: out.write });
  send(write, "last words");
  close(write);
  expect(console.settle()).toBe(-1);

  expect(console.typed()).toBe("last words");
  console.say("answer");
  expect(console.settle()).toBe(-1); // asleep, not spinning on the end
  expect(console.epoll.wait(0)).toBe(0);
  for (const fd of [read, out.read, out.write]) close(fd);
  console.close();
});

test("a regular file and /dev/null, which cannot be waited on, are read to their end", () => {
  const path = join(tmpdir(), `chv-input-${process.pid}`);
  const words = "from a file ".repeat(1000);
  writeFileSync(path, words);
  const inFd = openPath(path, Open.readOnly);
  const console = new Console({ mode: "tty", inFd });
  let typed = "";
  for (let i = 0; i < 40; i++) {
    console.turn();
    typed += console.typed();
  }
  expect(typed).toBe(words);
  expect(console.settle()).toBe(-1);
  close(inFd);
  console.close();

  const nothing = openPath("/dev/null", Open.readOnly);
  const empty = new Console({ mode: "tty", inFd: nothing });
  expect(empty.settle()).toBe(-1);
  expect(empty.arrivals).toBe(0);
  close(nothing);
  empty.close();
});

test("a chunk of escape keys never overfills the ring", () => {
  const { read, write } = pipe();
  const console = new Console({ mode: "tty", inFd: read, escapeKeys: true });
  const pairs = 3000;
  send(write, `${a}c`.repeat(pairs)); // each pair stays two bytes
  let typed = "";
  for (let i = 0; i < 40; i++) {
    console.turn();
    typed += console.typed();
  }

  expect(typed).toBe(`${a}c`.repeat(pairs));
  for (const fd of [read, write]) close(fd);
  console.close();
});
