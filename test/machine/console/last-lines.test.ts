import { expect, test } from "bun:test";
import { ByteRing } from "../../../src/bus/byte-ring.ts";
import { lastLines } from "../../../src/machine/console/last-lines.ts";
import type { ConsoleSpec } from "../../../src/machine/console/spec.ts";

/** A console whose guest has written `text`, all of it taken but for the last `waiting` bytes. */
function written(name: string, text: string | Uint8Array, waiting = 0): ConsoleSpec {
  const output = new SharedArrayBuffer(ByteRing.bytesFor(65536));
  const ring = new ByteRing(output);
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  for (const [i, byte] of bytes.entries()) {
    ring.push(byte);
    if (i < bytes.length - waiting) ring.consume(1);
  }
  const ends = { outFd: -1, inFd: -1, listenFd: -1, outBlocks: false, escapeKeys: false };
  return { name, mode: "null", ...ends, output };
}

const size = (lines: unknown) => new TextEncoder().encode(JSON.stringify(lines)).length;

test("the last lines are there, taken or not, the newest last", () => {
  const text = "one\r\ntwo\n\r\n  \nKernel panic - not syncing: end\r\n";
  const lines = ["one", "two", "Kernel panic - not syncing: end"];

  expect(lastLines([written("serial", text)])).toEqual({ serial: lines });
  expect(lastLines([written("serial", text, text.length)])).toEqual({ serial: lines });
});

test("a line without an end counts", () => {
  expect(lastLines([written("serial", "one\ntw")])).toEqual({ serial: ["one", "tw"] });
});

test("a console that has said nothing is left out", () => {
  expect(lastLines([written("serial", ""), written("console", "here\n")])).toEqual({
    console: ["here"],
  });
  expect(lastLines([])).toEqual({});
});

test("20 lines at most, the last ones, also when the ring has gone round", () => {
  const text = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join("");

  const { serial } = lastLines([written("serial", text)]);

  expect(serial).toEqual(Array.from({ length: 20 }, (_, i) => `line ${19_980 + i}`));
});

test("with all consoles and all escapes it stays below what a pipe takes at once", () => {
  const hostile = '\x1b\x01"\\'.repeat(30_000);
  const lines = `${hostile}\n${`${hostile.slice(0, 150)}\n`.repeat(100)}`;

  const all = lastLines([written("serial", lines), written("console", lines)]);

  expect(all.serial!.length).toBeGreaterThan(0);
  expect(size(all)).toBeLessThan(2600); // PIPE_BUF is 4096
});

test("a line without an end is cut, and bytes that are no text do not matter", () => {
  const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => (i % 255) + 1).map((b) =>
    b === 10 ? 11 : b,
  );

  const { serial } = lastLines([written("serial", bytes)]);

  expect(serial!.length).toBe(1);
  expect(serial![0]!.length).toBe(200);
});
