/** Opening the far ends: what is refused, in which words, and what is never touched. */
import { afterAll, afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../../src/exit-codes.ts";
import { listenUnix } from "../../../src/ffi/unix-socket.ts";
import { openConsole } from "../../../src/machine/console/open.ts";
import { leftOpen, openFiles } from "../proc.ts";
import { close, connect } from "./far-end.ts";

const shared = mkdtempSync(join(tmpdir(), "chv-open-"));
afterAll(() => rmSync(shared, { recursive: true }));
// here, since the runtime opens descriptors of its own when it first starts a process
const pipe = join(shared, "pipe");
Bun.spawnSync(["mkfifo", pipe]);

let work = "";
let before: string[] = [];
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "chv-open-"));
  before = openFiles();
});
afterEach(() => {
  rmSync(work, { recursive: true });
  expect(leftOpen(before)).toEqual([]);
});

type Config = Parameters<typeof openConsole>[1];
const socket = (path: string) => ({ mode: "Socket", socket: path }) as Config;
const file = (path: string) => ({ mode: "File", file: path }) as Config;

/** The line of a failure. */
function failure(config: Config, option = "--serial"): string {
  try {
    openConsole(option, config)?.close();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).option).toBe(option);
    return (error as Error).message;
  }
  return "opened";
}

test("off is no device, null one without a far end", () => {
  expect(openConsole("--serial", { mode: "Off" } as Config)).toBeUndefined();
  const { spec, close: end } = openConsole("--console", { mode: "Null" } as Config)!;

  expect(spec).toMatchObject({ name: "console", mode: "null", outFd: -1, inFd: -1, listenFd: -1 });
  end();
});

test("a file is made, or emptied", () => {
  const path = join(work, "log");
  writeFileSync(path, "old");
  openConsole("--serial", file(path))!.close();

  expect(readFileSync(path, "utf8")).toBe("");
});

test("a socket is there while the console is open, and gone after", () => {
  const path = join(work, "s");
  const console = openConsole("--serial", socket(path))!;
  expect(lstatSync(path).isSocket()).toBe(true);
  close(connect(path));
  console.close();

  expect(existsSync(path)).toBe(false);
});

test("a socket file that its process left behind is replaced", () => {
  const path = join(work, "s");
  close(listenUnix(path, 1));
  expect(existsSync(path)).toBe(true);

  openConsole("--serial", socket(path))!.close();
  expect(existsSync(path)).toBe(false);
});

test("neither a listener nor a file that is no socket is pushed aside", () => {
  const path = join(work, "s");
  const taken = "address already in use; name a path where nothing is, and nobody listens";
  const listener = listenUnix(path, 1);
  expect(failure(socket(path))).toBe(`--serial ${path}: ${taken}`);
  close(connect(path));
  close(listener);

  const precious = join(work, "precious");
  writeFileSync(precious, "data");
  expect(failure(socket(precious))).toBe(`--serial ${precious}: ${taken}`);
  expect(readFileSync(precious, "utf8")).toBe("data");
});

test.each([
  ["file", file("/nowhere/log"), "/nowhere/log: no such file or directory"],
  ["file", file("/"), "/: is a directory"],
  ["socket", socket("/nowhere/s"), "/nowhere/s: no such file or directory"],
  ["socket", socket(`/${"x".repeat(107)}`), `/${"x".repeat(107)}: file name too long`],
])("a %s that cannot be is named with its reason", (_, config, reason) => {
  const advice = "name a path in a folder that this user may write";

  expect(failure(config, "--console")).toBe(`--console ${reason}; ${advice}`);
});

test("a path of the greatest length works", () => {
  const path = `${work}/${"s".repeat(107 - work.length - 1)}`;

  expect(failure(socket(path))).toBe("opened");
});

test("a named pipe that nobody reads is refused, not waited for", () => {
  expect(failure(file(pipe))).toBe(
    `--serial ${pipe}: no such device or address; open the pipe's reading end first`,
  );
});

test("a pty tells its path", () => {
  const { path, spec, close: end } = openConsole("--serial", { mode: "Pty" } as Config)!;

  expect(path).toMatch(/^\/dev\/pts\/\d+$/);
  expect(spec.inFd).toBe(spec.outFd);
  end();
});
