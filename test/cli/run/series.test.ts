/** Commands one after the other: what chv and the runner say, with the guest's lines in the test's hand. */
import { beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import { Series } from "../../../src/cli/run/series.ts";

let log: string[] = [];
let said: string[] = [];
let series: Series;
const asked = { argv: ["a"], env: {} };

function begin(): void {
  log = [];
  said = [];
  series = new Series(
    (line) => void said.push(line),
    {
      ready: () => void log.push("ready"),
      started: (id) => void log.push(`started ${id}`),
      ended: (id, { status, output, error }) =>
        void log.push(`${id}: ${status} ${output} ${error}`),
      lost: (id, why) => void log.push(`${id} lost: ${why}`),
    },
    true,
  );
}
beforeEach(begin);

const hear = (...lines: string[]) => {
  for (const line of lines) series.heard(line);
};

test("two commands", () => {
  hear("", "hello 1", "ready");
  series.ask(1, asked);
  series.input(1, 3);
  hear("started 12", "exited 7 30 4", "ready");
  series.ask(2, { ...asked, user: "me" });
  hear("started 13");
  series.signal(2, 15);
  hear("killed 15 0 0");
  series.input(2, 0);

  expect(log).toEqual(["ready", "started 1", "1: 7 30 4", "ready", "started 2", "2: 143 0 0"]);
  expect(said).toEqual([
    '{"argv":["a"],"env":{},"sync":true,"more":true}',
    "input 3",
    '{"argv":["a"],"env":{},"user":"me","sync":true,"more":true}',
    "signal 15",
    "input 0",
  ]);
});

test("a signal before the start is handed on then, one for another command never", () => {
  hear("hello 1", "ready");
  series.ask(1, asked);
  series.signal(1, 2);
  series.signal(7, 9);
  expect(said).toHaveLength(1);
  hear("started 12");

  expect(said.slice(1)).toEqual(["signal 2"]);
});

test("a guest that starts over takes the command along, and the next life runs the next", () => {
  hear("hello 1", "ready");
  series.ask(1, asked);
  series.beginLife("the guest was reset");
  expect(series.silent).toBe(true);
  series.ask(2, asked);
  series.input(1, 5);
  hear("hello 1", "ready", "hello 1", "ready");
  series.ask(3, asked);
  hear("hello 1");

  expect(log).toEqual([
    ...["ready", "1 lost: the guest was reset", "2 lost: the runner in the guest is not ready"],
    ...["ready", "ready", "3 lost: the runner in the guest has started over"],
  ]);
  expect(said.filter((line) => line.startsWith("input"))).toEqual([]);
});

test.each(["exited 256 0 0", "killed 65 0 0", "exited", "exited 1 2", "exited -1 0 0"])(
  "%j is said by no runner",
  (line) => {
    hear("hello 1", "ready");
    series.ask(1, asked);
    hear("started 1", line);

    expect(log.at(-1)).toBe("1 lost: the runner in the guest says what no runner says");
  },
);

test("out of turn, words mean nothing", () => {
  hear(
    "ready",
    "started 1",
    "exited 0 0 0",
    "killed 9 0 0",
    " ",
    "hello",
    "started 1",
    "exited 0 0 0",
  );

  expect(log).toEqual([]);
});

test("whatever the guest says, each command ends at most once, and with numbers that can be", () => {
  const word = fc.constantFrom(
    "hello 1",
    "ready",
    "started 1",
    "exited 0 1 2",
    "killed 9 0 0",
    "exited 300",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string(), fc.constant(undefined))), (lines) => {
      begin();
      let id = 0;
      for (const line of lines) {
        if (line === undefined) series.ask(++id, asked);
        else series.heard(line);
      }
      const ends = log.flatMap((text) => /^(\d+)(?: lost)?: /.exec(text)?.[1] ?? []);

      expect(new Set(ends).size).toBe(ends.length);
      expect(log.filter((text) => /^\d+: (?!0 1 2$|137 0 0$)/.test(text))).toEqual([]);
    }),
    { numRuns: 500 },
  );
});
