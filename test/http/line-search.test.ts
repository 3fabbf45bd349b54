/** Looking through what consoles say, in turns with others. */
import { expect, test } from "bun:test";
import { LineSearch } from "../../src/http/line-search.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** What a search looked at, in order, of pieces of one console's output. */
async function lookedAt(...pieces: (string | Uint8Array)[]): Promise<string[]> {
  const lines: string[] = [];
  const search = new LineSearch(
    (line) => lines.push(line) > 0,
    () => {},
  );
  for (const piece of pieces) {
    search.take("serial", typeof piece === "string" ? bytes(piece) : piece);
  }
  await new Promise<void>((resolve) => search.end(resolve));
  return lines;
}

test("lines are looked at whole, and the last one as far as it goes", async () => {
  expect(await lookedAt("one\r\ntwo\n\nlog")).toEqual(["one", "two", "", "log"]);
  expect(await lookedAt("micro lo", "gin: ", "\nnext\n")).toEqual([
    ...["micro lo", "micro login: ", "micro login: ", "next"],
  ]);
});

test("a character that comes in two pieces is one", async () => {
  const text = bytes("größe\n");
  expect((await lookedAt(text.subarray(0, 3), text.subarray(3))).at(-1)).toBe("größe");
});

test("of a long line the last 4096 characters are looked at", async () => {
  const [line] = await lookedAt(`${"x".repeat(50_000)}end\n`);
  expect(line).toBe(`${"x".repeat(4093)}end`);
});

test("lines of two consoles are not mixed up", async () => {
  const found: string[] = [];
  const search = new LineSearch(
    (line) => line === "whole",
    (console) => found.push(console),
  );
  search.take("serial", bytes("who"));
  search.take("console", bytes("else\nwhole"));
  search.take("serial", bytes("le\n"));
  await new Promise<void>((resolve) => search.end(resolve));
  expect(found).toEqual(["console", "serial"]);
});

test("others have their turn while it looks, and what it was given comes before its end", async () => {
  const order: string[] = [];
  const slow = (line: string) => {
    const until = performance.now() + 2;
    while (performance.now() < until);
    return line === "last";
  };
  const search = new LineSearch(slow, () => order.push("found"));

  search.take("serial", bytes(`${"line\n".repeat(50)}last\n`));
  search.end(() => order.push("end"));
  search.take("serial", bytes("last\n")); // too late
  setImmediate(() => order.push("another"));
  while (!order.includes("end")) await new Promise(setImmediate);

  expect(order).toEqual(["another", "found", "end"]);
});

test("nothing is looked at once nobody wants to know, and the end comes all the same", async () => {
  const lines: string[] = [];
  const search = new LineSearch(
    (line) => {
      lines.push(line);
      search.stop();
      return true;
    },
    () => {},
  );
  search.take("serial", bytes("one\ntwo\n"));
  search.take("serial", bytes("three\n"));
  await new Promise<void>((resolve) => search.end(resolve));
  expect(lines).toEqual(["one"]);
});

test("of more than is looked at in time the oldest is left out", async () => {
  const lines: string[] = [];
  const search = new LineSearch(
    (line) => {
      const until = performance.now() + 10;
      while (performance.now() < until);
      return lines.push(line) > 0;
    },
    () => {},
  );
  const piece = (name: string) => bytes(`${"x".repeat(2 ** 19)}${name}\n`);
  for (let i = 0; i < 20; i++) search.take("serial", piece(`${i}`));
  await new Promise<void>((resolve) => search.end(resolve));
  expect(lines.length).toBeLessThan(10); // 2 MiB, and what was looked at before
  expect(lines.at(-1)).toEndWith("x19");
});
