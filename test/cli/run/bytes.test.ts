/** Words that are no UTF-8, as Python says them: `python3 -c 'print(ascii(os.fsdecode(b"…")))'`. */
import { expect, test } from "bun:test";
import { asGiven, escaped } from "../../../src/cli/run/bytes.ts";

test.each<[number[], string]>([
  [[], ""],
  [[0x61, 0xc3, 0xbc], "aü"],
  [[0xff], "\udcff"],
  [[0x61, 0x80, 0x62], "a\udc80b"],
  [[0xc3], "\udcc3"],
  [[0xc3, 0x28], "\udcc3("],
  [[0xe2, 0x82, 0xac, 0xe2, 0x82], "€\udce2\udc82"],
  [[0xf0, 0x9f, 0x98, 0x80, 0xfe], "😀\udcfe"],
  [[0xed, 0xb3, 0xbf], "\udced\udcb3\udcbf"],
  [[0xef, 0xbf, 0xbd, 0xff], "\ufffd\udcff"],
  [[0xef, 0xbb, 0xbf, 0xff], "\ufeff\udcff"],
])("%j", (bytes, text) => {
  const made = escaped(Uint8Array.from(bytes));
  expect(made).toBe(text);
  const command = "import os, sys; print(os.fsencode(__import__('json').loads(sys.argv[1])).hex())";
  const { stdout } = Bun.spawnSync(["python3", "-c", command, JSON.stringify(made)]);
  expect(stdout.toString().trim()).toBe(Buffer.from(bytes).toString("hex"));
});

test("words that are text are left alone", () => {
  const words = ["a", "ü", ""];
  expect(asGiven(words)).toBe(words);
});
