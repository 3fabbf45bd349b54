/** Locks of whole files, and who is in the way. */
import { afterAll, beforeEach, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Block } from "../../src/ffi/block.ts";
import { claimFile, lockFile } from "../../src/ffi/file-lock.ts";
import { sendMessage } from "../../src/ffi/messages.ts";
import { socketPair } from "../../src/ffi/unix-socket.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-file-lock-"));
const path = join(folder, "file");
const fds: number[] = [];
const open = () => fds[fds.push(openSync(path, "r+")) - 1]!;
beforeEach(() => {
  for (const fd of fds.splice(0)) closeSync(fd);
  writeFileSync(path, "");
});
afterAll(() => {
  for (const fd of fds) closeSync(fd);
  rmSync(folder, { recursive: true });
});

test("one writer, or readers together", () => {
  const [one, other, third] = [open(), open(), open()];
  expect(lockFile(one, "read")).toBe(true);
  expect(claimFile(other, path, "read")).toBeUndefined();
  expect(lockFile(third, "write")).toBe(false);
});

test("who is in the way is named at once", () => {
  lockFile(open(), "write");
  expect(claimFile(open(), path, "read")).toBe(`in use by process ${process.pid}; end it first`);
});

/** The lock of a file that no process has open: it is in a message that waits in a socket of a process, which ends when told. */
function lockInFlight() {
  const fd = openSync(path, "r+");
  lockFile(fd, "write");
  const [one, other] = socketPair();
  const message = new Block(1);
  sendMessage(one, message.address, 1, [fd]);
  const [end, word] = socketPair();
  const child = Bun.spawn(["cat"], { stdio: [word, "ignore", "ignore", other] });
  for (const mine of [fd, one, other, word]) closeSync(mine);
  const tell = () => closeSync(end); // the end of its input
  return { child, tell };
}

test("a holder that no process is any more is waited for", async () => {
  const { child, tell } = lockInFlight();
  expect(lockFile(open(), "write")).toBe(false);
  tell();
  expect(claimFile(open(), path, "write")).toBeUndefined();
  await child.exited;
});

test("but not for ever", async () => {
  const { child, tell } = lockInFlight();
  expect(claimFile(open(), path, "write")).toBe("in use by another process; end it first");
  tell();
  await child.exited;
});
