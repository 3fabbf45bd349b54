/** Starts chv, with the descriptors that it is driven by. */
import { spawn } from "node:child_process";
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex, Readable, Writable } from "node:stream";
import { failure } from "../cli/run/verdict.ts";
import { runArguments } from "./arguments.ts";
import { findBinary } from "./binary.ts";
import { BinaryError, type Exit } from "./errors.ts";
import type { BootOptions } from "./options.ts";

const descriptors = { fd: 3, stdin: 4, stdout: 5, stderr: 6 };
const firstFile = 7;
const logMost = 64 * 1024;

export interface Launch {
  readonly pid: number;
  readonly control: Duplex;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** What chv itself has written: the last of it. */
  readonly log: () => string;
  readonly kill: () => void;
  /** Resolves when the process has ended and all that it said is heard. */
  readonly exited: Promise<Exit>;
}

/** Throws BinaryError. */
export async function launch(options: BootOptions): Promise<Launch> {
  const { chv = findBinary(process.env, import.meta.url) } = options;
  const [program, ...before] = typeof chv === "string" ? [chv] : chv;
  const files: number[] = [];
  try {
    const words = runArguments(options, (text) => {
      files.push(unlinked(text));
      return `/proc/self/fd/${firstFile + files.length - 1}`;
    });
    const control = Object.entries(descriptors).map(([key, fd]) => `${key}=${fd}`);
    const child = spawn(
      program!,
      [...before, "run", `--control=${control.join(",")}`, ...words],
      // a session of its own: what a terminal sends is for the script
      { stdio: ["ignore", "ignore", ...Array(5).fill("pipe"), ...files], detached: true },
    );
    const failed = new Promise<Error>((resolve) => void child.once("error", resolve));
    if (child.pid === undefined) {
      throw new BinaryError(`${program}: ${(await failed).message}; name the chv executable`);
    }
    const { pid } = child;
    const stream = (fd: number) => child.stdio[fd] as unknown as Duplex;
    let log = "";
    stream(2).on("data", (bytes: Uint8Array) => {
      log = (log + Buffer.from(bytes).toString()).slice(-logMost);
    });
    const heard = [2, descriptors.fd].map(
      (fd) => new Promise((resolve) => stream(fd).once("close", resolve)),
    );
    const exited = new Promise<Exit>((resolve) => {
      child.once("exit", async (code, signal) => {
        await Promise.all(heard);
        resolve(exitOf(code, signal, log));
      });
    });
    return {
      ...{ pid, log: () => log, exited, kill: () => void child.kill("SIGKILL") },
      control: stream(descriptors.fd),
      stdin: stream(descriptors.stdin),
      stdout: stream(descriptors.stdout),
      stderr: stream(descriptors.stderr),
    };
  } finally {
    for (const fd of files) closeSync(fd);
  }
}

/** A file that has no name any more: nothing stays, whatever becomes of this process. */
function unlinked(text: string): number {
  const path = join(tmpdir(), `chv-${crypto.randomUUID()}`);
  const fd = openSync(path, "wx+", 0o600);
  try {
    unlinkSync(path);
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** As far as the process alone tells: its status, and its last line. */
function exitOf(code: number | null, signal: string | null, log: string): Exit {
  const last = log
    .trimEnd()
    .split("\n")
    .at(-1)!
    .replace(/^chv: /, "");
  const { reason, status, message = null } = failure(code ?? 249, signal ? `chv: ${signal}` : last);
  return { reason, status, message };
}
