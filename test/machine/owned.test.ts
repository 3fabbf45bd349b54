/** What is owned is given back: all of it, once, the last first. */
import { expect, test } from "bun:test";
import { readlinkSync } from "node:fs";
import { createEventfd } from "../../src/ffi/eventfd.ts";
import { Owned } from "../../src/machine/owned.ts";
import { leftOpen, openFiles } from "./proc.ts";

test("gives back in the reverse order of taking, once", () => {
  const order: number[] = [];
  const owned = new Owned();
  for (const i of [1, 2, 3]) owned.add(() => order.push(i));

  owned.close();
  owned.close();

  expect(order).toEqual([3, 2, 1]);
});

test("an error keeps nothing from being given back; the first is told", () => {
  const order: number[] = [];
  const owned = new Owned();
  owned.add(() => order.push(1));
  for (const name of ["later", "first"]) {
    owned.add(() => {
      throw new Error(name);
    });
  }

  expect(() => owned.close()).toThrow("first");
  expect(order).toEqual([1]);
  expect(() => owned.close()).not.toThrow();
});

test("descriptors are handed through, and closed", () => {
  const before = openFiles();
  const owned = new Owned();
  const fd = createEventfd();
  const file = { fd: createEventfd(), path: "x" };

  expect(owned.fd(fd)).toBe(fd);
  expect(owned.file(file)).toBe(file);
  for (const open of [fd, file.fd])
    expect(readlinkSync(`/proc/self/fd/${open}`)).toContain("eventfd");
  owned.close();

  expect(leftOpen(before)).toEqual([]);
});

test("what a release takes up again is given back too", () => {
  const owned = new Owned();
  let released = false;
  owned.add(() => owned.add(() => (released = true)));
  owned.close();

  expect(released).toBe(true);
});
