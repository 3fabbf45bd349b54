/** The archive, as a second program (busybox's cpio) reads it, and its header by hand. */

import { expect, test } from "bun:test";
import { cpio } from "../e2e/initramfs/cpio.ts";

const archive = cpio([
  { path: "dev", kind: "folder" },
  { path: "dev/console", kind: "character device", major: 5, minor: 1, mode: 0o600 },
  { path: "init", kind: "file", data: Buffer.from("hello"), mode: 0o755 },
  { path: "sh", kind: "link", target: "init" },
]);

test("the first header is newc's, with its fields in order", () => {
  const header = archive.subarray(0, 110).toString("latin1");

  expect(header.slice(0, 6)).toBe("070701");
  expect(header.slice(14, 22)).toBe("000041ed"); // S_IFDIR | 0755
  expect(header.slice(94, 102)).toBe("00000004"); // "dev" and its NUL
});

test("members start at multiples of four and the trailer ends the archive", () => {
  const at = archive.indexOf("070701", 6, "latin1");

  expect(at).toBe(116); // 110 + 4, up to four
  expect(archive.byteLength % 4).toBe(0);
  expect(archive.subarray(-16).toString("latin1")).toContain("TRAILER!!!");
});

test("busybox lists every member with its type, mode, size and device", () => {
  const listing = Bun.spawnSync(["busybox", "cpio", "-tv"], { stdin: archive });
  const lines = listing.stdout.toString().trim().split("\n");

  expect(lines[0]).toMatch(/^drwxr-xr-x.* dev$/);
  expect(lines[1]).toMatch(/^crw-------.* dev\/console$/);
  expect(lines[2]).toMatch(/^-rwxr-xr-x.* 5 .* init$/);
  expect(lines[3]).toMatch(/^lrwxrwxrwx.* sh -> init$/);
});
