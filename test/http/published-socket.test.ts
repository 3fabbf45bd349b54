/** The API's socket in the file system: who may have it, what is left behind, and how it looks. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../src/exit-codes.ts";
import { close } from "../../src/ffi/file.ts";
import { acceptUnix, listenUnix } from "../../src/ffi/unix-socket.ts";
import { PublishedSocket } from "../../src/http/published-socket.ts";
import { connect } from "../machine/console/far-end.ts";
import { leftOpen, openFiles } from "../machine/proc.ts";

let folder = "";
let before: string[] = [];
beforeEach(() => {
  before = openFiles();
  folder = mkdtempSync(join(tmpdir(), "chv-api-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  expect(leftOpen(before)).toEqual([]);
});

const at = (path: string, more: object = {}) =>
  new PublishedSocket({ path, mode: "0600", ...more });

function refusal(path: string, more: object = {}): string {
  try {
    at(path, more).close();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error("it was not refused");
}

test("nobody finds it before it is published, and nothing is left when it closes", () => {
  const path = join(folder, "s");
  const socket = at(path);
  expect(readdirSync(folder)).not.toContain("s");

  socket.publish();
  const client = connect(path);
  const accepted = acceptUnix(socket.fd);
  expect(accepted).toBeGreaterThan(0);

  for (const fd of [client, accepted]) close(fd);
  socket.close();
  expect(readdirSync(folder)).toEqual([]);
});

test("one that was never published leaves nothing either", () => {
  at(join(folder, "s")).close();
  expect(readdirSync(folder)).toEqual([]);
});

test("mode and group are those asked for", () => {
  const path = join(folder, "s");
  const socket = at(path, { mode: "0660", group: "7" });
  socket.publish();

  const { mode, gid } = statSync(path);
  expect((mode & 0o777).toString(8)).toBe("660");
  expect(gid).toBe(7);
  socket.close();
  expect(refusal(path, { group: "no-such-group" })).toBe(
    `--api-socket ${path}: group=no-such-group is not known here; name another`,
  );
  expect(readdirSync(folder)).toEqual([]);
});

test("a living instance keeps it, and is named", () => {
  const path = join(folder, "s");
  const socket = at(path);
  expect(refusal(path)).toBe(
    `--api-socket ${path}: in use by process ${process.pid}; end it first, or name another path`,
  );
  socket.close();
});

test("a socket that was left behind is replaced, also with its lock file", () => {
  const path = join(folder, "s");
  close(listenUnix(path, 1));
  writeFileSync(`${path}.lock`, "");

  const socket = at(path);
  socket.publish();
  const client = connect(path);
  close(client);
  socket.close();
  expect(readdirSync(folder)).toEqual([]);
});

test("somebody else's socket and somebody's file stay", () => {
  const [other, file] = [join(folder, "other"), join(folder, "file")];
  const listener = listenUnix(other, 1);
  writeFileSync(file, "text");

  expect(refusal(other)).toContain("in use by a process that is not chv; end it first");
  expect(refusal(file)).toContain("a file that is no socket is there; name another path");
  expect(readdirSync(folder).toSorted()).toEqual(["file", "other"]);
  close(listener);
});

test("a path that cannot be is refused in one line", () => {
  expect(refusal(join(folder, "none/s"))).toContain("no such file or directory; name a folder");
  expect(refusal(join(folder, "x".repeat(120)))).toContain("longer than the 107 bytes");
});

test("an inherited socket must listen", () => {
  const path = join(folder, "s");
  const listener = listenUnix(path, 1);
  const inherited = new PublishedSocket({ fd: listener, mode: "0600" });
  inherited.publish();
  const client = connect(path);
  const accepted = acceptUnix(inherited.fd);
  expect(accepted).toBeGreaterThan(0);

  expect(() => new PublishedSocket({ fd: client, mode: "0600" })).toThrow(
    `--api-socket fd=${client}: no unix socket that listens; pass one`,
  );
  for (const fd of [client, accepted, listener]) close(fd);
});
