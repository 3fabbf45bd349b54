import { expect, test } from "bun:test";
import { editDistance, nearest, quoted } from "../../src/cli/nearest.ts";

test.each([
  ["kitten", "sitting", 3],
  ["", "abc", 3],
  ["abc", "", 3],
  ["same", "same", 0],
  ["kernle", "kernel", 1], // a swap is one edit
  ["ca", "abc", 3], // optimal string alignment, not the unrestricted distance, which is 2
])("%s and %s are %d edits apart", (a, b, edits) => {
  expect(editDistance(a, b)).toBe(edits);
});

test("the nearest word is the first with the fewest edits, whatever its case", () => {
  expect(nearest("sise", ["file", "size", "side"])).toBe("size");
  expect(nearest("KERNEL", ["console", "kernel"])).toBe("kernel");
  expect(nearest("x", [])).toBeUndefined();
});

test("a piece of the user's text in a message is one short line of printable characters", () => {
  expect(quoted("a\nb\u001b[2J\u009b\u2028")).toBe('"a\\nb\\u001b[2J\\u009b\\u2028"');
  expect(quoted("x".repeat(1000)).length).toBeLessThan(100);
});
