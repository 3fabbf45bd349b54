/** How the tiers are told apart, and their files dealt out. */

import { expect, test } from "bun:test";
import { sharesOf, tierOf } from "./tiers.ts";

test.each([
  ["test/ffi/struct.test.ts", "unit"],
  ["test/tidy.test.ts", "unit"],
  ["test/guests/serial.test.ts", "guest"],
  ["test/e2e/boot.test.ts", "linux"],
  ["test/fuzz/elf.test.ts", "fuzz"],
  ["test/guests/large/vcpus.test.ts", "large"],
  ["test/e2e/fuzz/images.test.ts", "fuzz"],
  ["test/e2e/matrix/images.test.ts", "images"],
  ["test/devices/images/raw.test.ts", "unit"],
])("%s is of the tier %s", (file, tier) => {
  expect(tierOf(file)).toBe(tier as ReturnType<typeof tierOf>);
});

test("files are dealt out so that no share has much more than another", () => {
  const length = (file: string) => file.length;

  expect(sharesOf(["aaaa", "b", "ccc", "dd"], length, 2)).toEqual([
    ["aaaa", "b"],
    ["ccc", "dd"],
  ]);
  expect(sharesOf(["a", "b"], length, 4)).toEqual([["a"], ["b"]]);
  expect(sharesOf([], length, 2)).toEqual([]);
});
