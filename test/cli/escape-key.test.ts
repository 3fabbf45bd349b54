import { expect, test } from "bun:test";
import { escapeKeys } from "../../src/cli/escape-key.ts";

/** What reaches the guest of pieces that are typed, and whether the person has left. */
function typed(...pieces: string[]): [string, boolean] {
  const keys = escapeKeys();
  let guest = "";
  for (const piece of pieces) {
    const { bytes, leave } = keys(new TextEncoder().encode(piece));
    guest += new TextDecoder().decode(bytes);
    if (leave) return [guest, true];
  }
  return [guest, false];
}

test("what is typed is the guest's", () => {
  expect(typed("ls x\r", "é")).toEqual(["ls x\ré", false]);
});

test("Ctrl-A x leaves, also when the two come apart", () => {
  expect(typed("a\x01xb")).toEqual(["a", true]);
  expect(typed("a\x01", "x")).toEqual(["a", true]);
});

test("Ctrl-A twice is one, and before anything else it stays", () => {
  expect(typed("\x01\x01x")).toEqual(["\x01x", false]);
  expect(typed("\x01", "\x01", "x")).toEqual(["\x01x", false]);
  expect(typed("\x01a")).toEqual(["\x01a", false]);
});
