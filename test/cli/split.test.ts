import { expect, test } from "bun:test";
import fc from "fast-check";
import { quoteValue, SplitError, splitList, splitOptions } from "../../src/cli/split.ts";
import { anyCharacter } from "../any-character.ts";

const pairs = (text: string) => splitOptions(text).map(({ key, value }) => [key, value]);

test.each<[string, [string | undefined, string][]]>([
  ["a=1", [["a", "1"]]],
  [
    "a=1,b=2",
    [
      ["a", "1"],
      ["b", "2"],
    ],
  ],
  [
    "4,max=8",
    [
      [undefined, "4"],
      ["max", "8"],
    ],
  ],
  ["a=b=c", [["a", "b=c"]]],
  [
    'file="/a,b",x=1',
    [
      ["file", "/a,b"],
      ["x", "1"],
    ],
  ],
  [
    '"/a,b",x=1',
    [
      [undefined, "/a,b"],
      ["x", "1"],
    ],
  ],
  ['a="say ""hi"", now"', [["a", 'say "hi", now']]],
  ['a=""', [["a", ""]]],
  ['a=5"disk', [["a", '5"disk']]],
  [
    "fd=[3,4],x=1",
    [
      ["fd", "[3,4]"],
      ["x", "1"],
    ],
  ],
  [
    "a=[1,[2,3]],b=",
    [
      ["a", "[1,[2,3]]"],
      ["b", ""],
    ],
  ],
  [
    'a="[",b=1',
    [
      ["a", "["],
      ["b", "1"],
    ],
  ],
  [
    "a=1,",
    [
      ["a", "1"],
      [undefined, ""],
    ],
  ],
  [
    ",a=1",
    [
      [undefined, ""],
      ["a", "1"],
    ],
  ],
])("%s", (text, expected) => {
  expect(pairs(text)).toEqual(expected);
});

test.each(['a="b', 'a="b"c', "a=[1", "a=1]", "a=[1]]", 'a="b""'])("refuses %s", (text) => {
  expect(() => splitOptions(text)).toThrow(SplitError);
});

test("a list is cut at its outer brackets; one item stands without", () => {
  expect(splitList("[3,4]")).toEqual(["3", "4"]);
  expect(splitList("3")).toEqual(["3"]);
  expect(splitList('["a,b",c=d]')).toEqual(["a,b", "c=d"]);
});

test("whatever value is quoted comes back", () => {
  const key = fc.stringMatching(/^[a-z_]{1,8}$/);
  const value = fc.string({ unit: anyCharacter });
  fc.assert(
    fc.property(fc.array(fc.tuple(key, value), { minLength: 1 }), (given) => {
      const text = given.map(([name, one]) => `${name}=${quoteValue(one)}`).join(",");
      expect(pairs(text)).toEqual(given);
    }),
  );
});

test("any text is cut or refused, never more", () => {
  const unit = fc.constantFrom("a", "=", ",", '"', "[", "]", "é", "\n");
  fc.assert(
    fc.property(fc.string({ unit }), (text) => {
      try {
        splitOptions(text);
      } catch (error) {
        expect(error).toBeInstanceOf(SplitError);
      }
    }),
    { numRuns: 2000 },
  );
});
