/** Messages with descriptors over unix sockets. */
import { afterAll, beforeEach, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Block } from "../../src/ffi/block.ts";
import { Cmsghdr, Msghdr, receiveMessage, sendMessage } from "../../src/ffi/messages.ts";
import { acceptUnix, connectUnix, listenUnix } from "../../src/ffi/unix-socket.ts";
import { valuesInC } from "../headers.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-messages-"));
const path = join(folder, "socket");
const listenFd = listenUnix(path, 4);
const buffer = new Block(256);
let [one, other] = [-1, -1];
beforeEach(() => {
  for (const fd of [one, other]) if (fd >= 0) closeSync(fd);
  one = connectUnix(path);
  other = acceptUnix(listenFd);
});
afterAll(() => {
  for (const fd of [one, other, listenFd]) closeSync(fd);
  rmSync(folder, { recursive: true });
});
const [EAGAIN, EPIPE, EMSGSIZE] = [11, 32, 90];

function send(text: string, fds?: readonly number[]): number {
  buffer.bytes.set(Buffer.from(text));
  return sendMessage(one, buffer.address, text.length, fds);
}
function receive(length: number, fds: number[] = []): string | number {
  const count = receiveMessage(other, buffer.address, length, fds);
  return count < 0 ? count : Buffer.from(buffer.bytes.subarray(0, count)).toString();
}

test("bytes come as they were sent; nothing waits", () => {
  expect(receive(10)).toBe(-EAGAIN);
  expect(send("hello")).toBe(5);
  expect(receive(3)).toBe("hel");
  expect(receive(10)).toBe("lo");
  expect(receive(10)).toBe(-EAGAIN);
});

test("descriptors come with the first byte, and are close-on-exec", () => {
  const file = openSync(import.meta.path, "r");
  send("ab", [file, file, one]);
  closeSync(file);
  const fds: number[] = [];

  expect(receive(1, fds)).toBe("a");
  expect(fds.length).toBe(3);
  expect(receive(1, fds)).toBe("b");
  expect(fds.length).toBe(3);

  const text = Buffer.alloc(8);
  readSync(fds[0]!, text, 0, 8, 0);
  expect(text.toString()).toBe("/** Mess");
  const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fds[0]}`, "utf8"))![1]!;
  expect(Number.parseInt(flags, 8) & 0o2000000).not.toBe(0);
  for (const fd of fds) closeSync(fd);
});

test("253 descriptors are the most", () => {
  const fds = new Array<number>(253).fill(listenFd);
  expect(send("x", [...fds, listenFd])).toBe(-EMSGSIZE);
  expect(send("x", fds)).toBe(1);
  const received: number[] = [];

  expect(receive(1, received)).toBe("x");
  expect(received.length).toBe(253);
  expect(new Set(received).size).toBe(253);
  for (const fd of received) closeSync(fd); // throws where it is none
});

test("the end is an empty string, and sending to it an error, no signal", () => {
  closeSync(other);
  other = -1;
  expect(send("x")).toBe(-EPIPE);

  [one, other] = [other, one];
  expect(receive(1)).toBe("");
});

test("nobody listens at a path that is not there", () => {
  expect(() => connectUnix(join(folder, "nothing"))).toThrow(/ENOENT/);
});

test("the structs are the C library's", () => {
  const sizes = ["sizeof(struct msghdr)", "sizeof(struct cmsghdr)"] as const;
  const fields = ["msg_iov", "msg_iovlen", "msg_control", "msg_controllen", "msg_flags"] as const;
  const offsets = fields.map((name) => `offsetof(struct msghdr, ${name})` as const);
  const values = valuesInC(["sys/socket"], [...sizes, ...offsets, "CMSG_LEN(0)", "SCM_RIGHTS"]);

  expect(Msghdr.size).toBe(values[sizes[0]]);
  expect(Cmsghdr.size).toBe(values[sizes[1]]);
  expect(Cmsghdr.size).toBe(values["CMSG_LEN(0)"]);
  for (const name of fields) {
    expect(Msghdr.offsets[name]).toBe(values[`offsetof(struct msghdr, ${name})`]);
  }
});
