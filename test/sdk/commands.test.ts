/** Commands as a script asks for them, with chv's side in the test's hand. */
import { beforeEach, expect, test } from "bun:test";
import { PassThrough } from "node:stream";
import type { Request } from "../../src/cli/run/protocol.ts";
import { Commands } from "../../src/sdk/commands.ts";

let said: Request[] = [];
let commands: Commands;
let streams: { stdin: PassThrough; stdout: PassThrough; stderr: PassThrough };

beforeEach(() => {
  said = [];
  let id = 0;
  streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  commands = new Commands(
    streams,
    (request) => void said.push(request),
    () => ++id,
    {},
  );
});

const turn = () => new Promise((resolve) => setImmediate(resolve));
const ended = (id: number, output = 0, error = 0) =>
  commands.told({ ...{ id, ended: 0, signal: null, output, error } });

test("nothing is asked for before the runner is ready", async () => {
  const first = commands.run(["a"], {});
  await turn();
  expect(said).toEqual([]);
  commands.told({ ready: true });
  await turn();
  expect(said).toEqual([
    { id: 1, run: { argv: ["a"], env: {} } },
    { id: 1, input: 0 },
  ]);
  ended(1);

  expect(await first).toEqual({ stdout: "", stderr: "", status: 0, signal: null });
});

test("a command has ended when all that it put out is there", async () => {
  const first = commands.run("a", {});
  commands.told({ ready: true });
  await turn();
  ended(1, 5, 1);
  streams.stdout.write("ab");
  await turn();
  streams.stdout.write("cde");
  streams.stderr.write("!");

  expect(await first).toMatchObject({ stdout: "abcde", stderr: "!" });
});

test("what a lost command still puts out is nobody's", async () => {
  const first = commands.run("a", {});
  commands.told({ ready: true });
  await turn();
  commands.told({ id: 1, lost: "the guest was reset" });
  await expect(first).rejects.toThrow("a: the guest was reset");
  const second = commands.run("b", {});
  commands.told({ ready: true, outputs: 6 });
  streams.stdout.write("old");
  await turn();
  expect(said.filter((request) => "run" in request)).toHaveLength(1);
  streams.stderr.write("old");
  await turn();
  await turn();
  streams.stdout.write("new");
  ended(2, 3);

  expect((await second).stdout).toBe("new");
});

test("a function that gets the output is waited for before more is read", async () => {
  const pieces: string[] = [];
  const free: (() => void)[] = [];
  const onStdout = (bytes: Uint8Array) => {
    pieces.push(Buffer.from(bytes).toString());
    return new Promise<void>((resolve) => free.push(resolve));
  };
  const first = commands.run("a", { onStdout });
  commands.told({ ready: true });
  await turn();
  streams.stdout.write("one");
  await turn();
  streams.stdout.write("two");
  ended(1, 6);
  await turn();
  expect(pieces).toEqual(["one"]);
  free[0]!();
  await turn();
  await turn();
  expect(pieces).toEqual(["one", "two"]);
  expect(await Promise.race([first, turn().then(() => "waits")])).toBe("waits");
  free[1]!();

  expect((await first).stdout).toBe("");
});

test("input is told to its end, and no more of it is sent when the command has ended", async () => {
  let returned = false;
  async function* endless() {
    try {
      for (;;) yield "x".repeat(300_000);
    } finally {
      returned = true;
    }
  }
  let count = 0;
  const first = commands.run("a", { stdin: endless() });
  commands.told({ ready: true });
  await turn();
  ended(1);
  await first;
  await turn();
  const input = said.find((request) => "input" in request) as { input: number };
  streams.stdin.on("data", (bytes: Uint8Array) => {
    count += bytes.length;
  });
  await turn();

  expect(count).toBeGreaterThan(0);
  expect(count).toBeLessThan(300_000);
  expect(input.input).toBe(count);
  expect(returned).toBe(true);
});

test("a source that fails ends the command, which fails with it", async () => {
  async function* broken() {
    yield "abc";
    throw new Error("no more");
  }
  const first = commands.run("a", { stdin: broken() });
  commands.told({ ready: true });
  await expect(first).rejects.toThrow("no more");

  expect(said.slice(1)).toEqual([
    { id: 1, input: 3 },
    { id: 1, signal: 9 },
  ]);
});

test("an image without a runner is told to whoever waits, until it comes after all", async () => {
  const first = commands.run("a", {});
  commands.told({ absent: "no word of the runner" });
  await expect(first).rejects.toMatchObject({
    reason: "boot",
    message: "a: no word of the runner",
  });
  await expect(commands.run("b", {})).rejects.toMatchObject({ reason: "boot" });
  commands.told({ ready: true });
  const third = commands.run("c", {});
  await turn();
  ended(3);

  expect((await third).status).toBe(0);
});

test("a time that is none is no command", () => {
  expect(() => commands.run("a", { timeout: "soon" as never })).toThrow(TypeError);
  expect(said).toEqual([]);
});
