/** What scripts wait for on the consoles. */
import { beforeEach, describe, expect, test } from "bun:test";
import { Console } from "../../src/sdk/console.ts";

let screen: Console;
beforeEach(() => {
  screen = new Console(async () => {});
});

const say = (text: string, name = "serial") => screen.take(name, new TextEncoder().encode(text));
const now = { timeout: 0 };

/** What an expectation finds in what was said: the match, or "nothing". */
const found = (pattern: RegExp | string) =>
  screen.expect(pattern, now).then(
    ([match]) => match,
    () => "nothing",
  );

describe("an expectation", () => {
  test("sees a prompt that has no end, and lines that come in pieces", async () => {
    const waiting = screen.expect(/box login: $/, {});
    say("Debian\r\nbox lo");
    say("gin: ");

    expect((await waiting)[0]).toBe("box login: ");
  });

  test("begins behind the one before it, in the same line", async () => {
    say("one two one\nthree one\n");

    expect(await found("one")).toBe("one");
    expect(await found(/^ two/)).toBe(" two");
    expect(await found("one")).toBe("one");
    expect(await found("one")).toBe("one");
    expect(await found("one")).toBe("nothing");
  });

  test("that was met by a prompt is not met again when its line grows", async () => {
    say("login: ");
    expect(await found("login:")).toBe("login:");
    say("\r\nlogin: ");

    expect(await found("login:")).toBe("login:");
    expect(await found("login:")).toBe("nothing");
  });

  test("sees no escape sequences, nor what a carriage return has taken back", async () => {
    say("\x1b[32mgr\x1b[0meen\x1b[K\n10 %\r90 %\n");

    expect(await found(/^green$/)).toBe("green");
    expect(await found(/^\d+ %/)).toBe("90 %");
  });

  test("may be of one console alone; text is no pattern", async () => {
    say("a.c\n", "serial");
    say("abc\n", "console");

    expect(await found("a.c")).toBe("a.c");
    const [match] = await screen.expect("b", { ...now, console: "console" });
    expect(match).toBe("b");
    expect(screen.last).toBe("console");
    await expect(screen.expect("zzz", { ...now, console: "serial" })).rejects.toThrow("zzz");
  });

  test("keeps no state of its pattern", async () => {
    const pattern = /x/g;
    say("x\nx\n");

    expect([await found(pattern), await found(pattern), await found(pattern)]).toEqual([
      ...["x", "x", "nothing"],
    ]);
  });

  test("fails when the machine is over, unless it was met before", async () => {
    const waiting = screen.expect("never", {});
    say("said\n");
    screen.close(new Error("over"));

    await expect(waiting).rejects.toThrow("over");
    expect(await found("said")).toBe("said");
    await expect(screen.expect("never", {})).rejects.toThrow("over");
  });

  test("a character that comes in two pieces is one", async () => {
    const bytes = new TextEncoder().encode("grün\n");
    screen.take("serial", bytes.subarray(0, 3));
    screen.take("serial", bytes.subarray(3));

    expect(await found("grün")).toBe("grün");
  });
});

test("lines come to every reader, in their order, until the end", async () => {
  say("a\n");
  const read = async () => {
    const lines: string[] = [];
    for await (const { console, text } of screen) lines.push(`${console}: ${text}`);
    return lines;
  };
  const readers = [read(), read()];
  await Promise.resolve();
  say("b\nopen", "console");
  screen.close(new Error("over"));

  const all = ["serial: a", "console: b"];
  expect(await Promise.all(readers)).toEqual([all, all]);
  expect(screen.text).toBe("a\nb\nopen");
});

test("what is kept has an end, and whoever waits goes on behind what was forgotten", async () => {
  await found("never");
  for (let i = 0; i < 30; i++) say("line\n".repeat(1000));
  say("last\n");

  expect(screen.text.split("\n").length).toBeLessThan(20_002);
  expect(await found("last")).toBe("last");
});
