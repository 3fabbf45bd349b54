import { expect, test } from "bun:test";
import { type Grammar, readArguments } from "../../src/cli/arguments.ts";
import type { Option, OptionKind } from "../../src/cli/option-table.ts";
import { UsageError } from "../../src/exit-codes.ts";

const option = (name: string, kind: OptionKind, short?: string): Option => ({
  name,
  short,
  kind,
  description: "",
  field: undefined,
  path: [name],
  plain: true,
});

const grammar: Grammar = {
  options: [
    option("kernel", "value"),
    option("cmdline", "value"),
    option("disk", "list"),
    option("net", "list"),
    option("watchdog", "switch"),
    option("verbose", "count", "v"),
    option("version", "action", "V"),
    option("help", "action", "h"),
  ],
  commands: ["run", "ctl"],
};

const read = (...argv: string[]) => readArguments(argv, grammar);
/** What was given, by name. */
const given = (...argv: string[]) =>
  Object.fromEntries([...read(...argv).given].map(([one, values]) => [one.name, values]));

test("--name VALUE and --name=VALUE are the same", () => {
  expect(given("--kernel", "/a")).toEqual({ kernel: ["/a"] });
  expect(given("--kernel=/a")).toEqual({ kernel: ["/a"] });
});

test("only the first equals sign ends the name", () => {
  expect(given("--cmdline=root=/dev/vda ro")).toEqual({ cmdline: ["root=/dev/vda ro"] });
});

test.each(["", " ", "a  b\n", "é\u{1f980}", 'dm-mod.create="x, y"', "a=b,c", "-"])(
  "the value %j is taken byte for byte",
  (value) => {
    expect(given("--cmdline", value)).toEqual({ cmdline: [value] });
    expect(given(`--cmdline=${value}`)).toEqual({ cmdline: [value] });
  },
);

test("a value that begins with a dash needs an equals sign", () => {
  expect(given("--cmdline=-x --help")).toEqual({ cmdline: ["-x --help"] });
  expect(() => read("--cmdline", "-x")).toThrow(
    "--cmdline needs a value; for one with a dash write --cmdline=VALUE",
  );
  expect(() => read("--cmdline", "--help")).toThrow(UsageError);
  expect(() => read("--cmdline", "--")).toThrow(UsageError);
});

test("an option at the end without its value is an error", () => {
  expect(() => read("--kernel")).toThrow("--kernel needs a value; write --kernel VALUE");
  expect(() => read("--disk")).toThrow("--disk needs a value; write --disk VALUE");
});

test("a list takes several values after one flag, may be repeated, and keeps the order", () => {
  expect(given("--disk", "a", "b", "--net", "x", "--disk=c", "d", "--disk", "e")).toEqual({
    disk: ["a", "b", "c", "d", "e"],
    net: ["x"],
  });
});

test("a command's name among a list's values is a value", () => {
  const args = read("--disk", "a", "run");

  expect(args.command).toBeUndefined();
  expect([...args.given.values()]).toEqual([["a", "run"]]);
});

test("an option of one value given twice is an error", () => {
  expect(() => read("--kernel", "a", "--kernel", "a")).toThrow(
    "--kernel is given twice; it takes one value, keep one",
  );
  expect(() => read("--watchdog", "--watchdog")).toThrow(UsageError);
});

test.each([
  ["-v", 1],
  ["-vvv", 3],
  ["-vvvvv", 5],
  ["-v -v", 2],
  ["-vv --verbose -v", 4],
])("%s counts to %d", (text, times) => {
  expect(given(...text.split(" "))).toEqual({ verbose: Array(times).fill("on") });
});

test("letters cluster with an action", () => {
  expect(read("-vV").action).toBe("version");
  expect(read("-vvh").action).toBe("help");
  expect(read("-vV").given.size).toBe(1);
  expect(read("-hq").action).toBe("help"); // it ends the reading where it stands
});

test("a switch stands alone or has a value, but takes no argument", () => {
  expect(given("--watchdog")).toEqual({ watchdog: ["on"] });
  expect(given("--watchdog=off")).toEqual({ watchdog: ["off"] });
  expect(read("--watchdog", "run").command?.name).toBe("run");
});

test("a flag without a value refuses one", () => {
  expect(() => read("--verbose=2")).toThrow('--verbose takes no value; leave out ="2"');
  expect(() => read("--help=x")).toThrow(UsageError);
  expect(() => read("--version=")).toThrow(UsageError);
});

test.each([
  ["--kernle", "--kernel"],
  ["--kernle=x", "--kernel"],
  ["--dsik", "--disk"],
  ["--verson", "--version"],
  ["-kernel", "--kernel"],
  ["-x", "--net"], // nothing is near: the first of equals
  ["--Kernel", "--kernel"],
])("unknown %s names %s", (argument, meant) => {
  expect(() => read(argument)).toThrow(
    new RegExp(`^unknown option ".*"; did you mean ${meant}\\?$`),
  );
});

test("an option's name is not abbreviated", () => {
  expect(() => read("--kern", "/a")).toThrow(UsageError);
});

test("everything after -- passes byte for byte, --help included", () => {
  const args = read("--kernel", "k", "--", "--help", "-V", "--", "--kernel=x", "", "a b");

  expect(args.rest).toEqual(["--help", "-V", "--", "--kernel=x", "", "a b"]);
  expect(args.action).toBeUndefined();
  expect(args.given.size).toBe(1);
});

test("-- ends a list, too", () => {
  expect(read("--disk", "a", "--", "b").rest).toEqual(["b"]);
  expect(read("--").rest).toEqual([]);
  expect(read().rest).toBeUndefined();
});

test("a command's name ends the pass; what follows is the command's", () => {
  const args = read("-v", "run", "--help", "-V");

  expect(args.command).toEqual({ name: "run", next: 2 });
  expect(args.action).toBeUndefined();
});

test("an unknown command names the nearest", () => {
  expect(() => read("runn")).toThrow('unknown command "runn"; did you mean run?');
});

test("positionals are taken as far as they are allowed", () => {
  const allowed = { options: grammar.options, positionals: 1 };

  expect(readArguments(["image", "-v"], allowed).positionals).toEqual(["image"]);
  expect(() => readArguments(["image", "more"], allowed)).toThrow(
    'unexpected argument "more"; options begin with --',
  );
});
