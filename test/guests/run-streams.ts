/** Many bytes through `chv run`: its guest puts them out, or counts them, and the test is at the other end. */
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Block } from "../../src/ffi/block.ts";
import { bytesToRead, close, Open, open, readSome } from "../../src/ffi/file.ts";
import { waitReadable } from "../../src/ffi/poll.ts";
import { buildGuest } from "./build.ts";
import { chvCommand } from "./harness.ts";

/** What the guest puts out, again and again: test/guests/virtio-console/stream.c. */
const piece = Buffer.from(BigUint64Array.from({ length: 4096 }, (_, i) => BigInt(i)).buffer);
const MiB = 2 ** 20;
const pipeBytes = 64 * 1024;
/** Where memory is looked at for the first time: all code has run. */
const warmBytes = 32 * MiB;
const lookBytes = 2 * MiB;
/** More than a machine's memory may change while it runs; less than any part of what passes. */
const growthKiB = 16 * 1024;

export class StreamingRun {
  readonly folder = mkdtempSync(join(tmpdir(), "chv-run-"));
  readonly #fifo = join(this.folder, "fifo");

  /** The command of a run whose guest does that. */
  async command(...words: string[]): Promise<string[]> {
    const image = join(this.folder, "image");
    writeFileSync(image, "");
    truncateSync(image, MiB);
    const kernel = await buildGuest("virtio-console");
    const machine = [image, "--memory", "64M", "--kernel", kernel];
    const line = ["--cmdline", "test=run-agent nth=1"];
    return [...(await chvCommand()), "run", ...machine, ...line, "--", ...words];
  }

  /** A run's output, read as soon as it comes, or (slow) only when the pipe is full and chv can write no more. */
  async pours(bytes: number, pace: "fast" | "slow"): Promise<void> {
    expect(Bun.spawnSync(["mkfifo", this.#fifo]).exitCode).toBe(0);
    const reader = open(this.#fifo, Open.readOnly | Open.nonBlock);
    const writer = open(this.#fifo, Open.writeOnly);
    const child = Bun.spawn(await this.command("flood", String(bytes)), {
      ...{ stdin: "ignore", stdout: writer, stderr: "inherit" },
    });
    close(writer);
    const [block, memory] = [new Block(pipeBytes), new Memory(child.pid)];
    let [count, right] = [0, true];
    while (count < bytes) {
      const over = child.exitCode !== null; // what it has written is in the pipe
      // a last part that does not fill the pipe comes in the end
      const full = () => over || bytesToRead(reader) >= Math.min(pipeBytes, bytes - count);
      const ready = pace === "slow" ? full() : waitReadable(reader, 100);
      const length = ready ? readSome(reader, block.address, pipeBytes) : 0;
      if (length <= 0) {
        if (over) break;
        await new Promise(setImmediate);
        continue;
      }
      const heard = block.bytes.subarray(0, length);
      right &&= isPattern(heard, count);
      count += length;
      memory.look(count, bytes);
    }
    close(reader);

    expect([count, right, await child.exited]).toEqual([bytes, true, 0]);
    expect(memory.grownKiB).toBeLessThan(growthKiB);
  }

  /** A run's input, which its guest counts. */
  async drains(bytes: number): Promise<void> {
    const child = Bun.spawn(await this.command("drain"), {
      ...{ stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    });
    const [chunk, memory] = [new Uint8Array(MiB), new Memory(child.pid)];
    for (let count = 0; count < bytes; count += chunk.length) {
      child.stdin.write(chunk);
      await child.stdin.flush();
      memory.look(count + chunk.length, bytes);
    }
    child.stdin.end();

    expect([await child.stdout.text(), await child.exited]).toEqual([String(bytes), 0]);
    expect(memory.grownKiB).toBeLessThan(growthKiB);
  }
}

/** Whether the bytes are those that come after `before` others. */
function isPattern(heard: Uint8Array, before: number): boolean {
  for (let at = 0; at < heard.length; ) {
    const start = (before + at) % piece.length;
    const length = Math.min(piece.length - start, heard.length - at);
    const expected = piece.subarray(start, start + length);
    if (Buffer.compare(heard.subarray(at, at + length), expected) !== 0) return false;
    at += length;
  }
  return true;
}

/** What a process has resident, from when it is warm until the last byte but some. */
class Memory {
  readonly #looks: number[] = [];
  #next = warmBytes;

  constructor(readonly pid: number) {}

  look(count: number, of: number): void {
    if (count < this.#next || count >= of) return;
    this.#next += lookBytes;
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    this.#looks.push(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? Number.NaN));
  }

  /** The least of the last third against the most of the first: what is collected now and then is no growth. */
  get grownKiB(): number {
    const third = Math.floor(this.#looks.length / 3);
    expect(third).toBeGreaterThan(10);
    return Math.min(...this.#looks.slice(-third)) - Math.max(...this.#looks.slice(0, third));
  }
}
