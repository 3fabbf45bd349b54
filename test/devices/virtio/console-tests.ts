/** What tests of consoles have in common: a folder, and nothing left open after each. */
import { afterEach, beforeEach, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listenUnix } from "../../../src/ffi/unix-socket.ts";
import { close, connect, pipe } from "../../machine/console/far-end.ts";
import { leftOpen, openFiles } from "../../machine/proc.ts";
import { ConsoleRig } from "./console-rig.ts";

let work = "";
let filesBefore: string[] = [];
let undo: (() => void)[] = [];

/** For the file that calls it. */
export function cleanAfterEach(): void {
  beforeEach(() => {
    work = mkdtempSync(join(tmpdir(), "chv-hvc-"));
    filesBefore = openFiles();
  });
  afterEach(() => {
    for (const release of undo.reverse()) release();
    undo = [];
    rmSync(work, { recursive: true });
    expect(leftOpen(filesBefore)).toEqual([]);
  });
}

/** A path in the test's folder. */
export const inFolder = (name: string): string => join(work, name);

/** Undone after the test, last first. */
export function later<T>(value: T, release: (value: T) => void): T {
  undo.push(() => release(value));
  return value;
}

export const made = (...parameters: ConstructorParameters<typeof ConsoleRig>): ConsoleRig =>
  later(new ConsoleRig(...parameters), (rig) => rig.close());

/** A pipe. */
export function ends(): { read: number; write: number } {
  const { read, write } = pipe();
  later(read, close);
  later(write, close);
  return { read, write };
}

/** A console on a socket. */
export function listening(): { path: string; rig: ConsoleRig } {
  const path = inFolder("s");
  const listenFd = later(listenUnix(path, 1), close);
  return { path, rig: made([{ mode: "socket", listenFd }]) };
}

export const client = (path: string): number => later(connect(path), close);

/** Bytes that tell where they are. */
export const pattern = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i ^ (i >> 8)) & 0xff);
