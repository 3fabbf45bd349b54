/** The entropy device (virtio 1.2 section 5.4) on sources of every kind. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EntropyBackend } from "../../../src/devices/virtio/entropy.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { Open, open } from "../../../src/ffi/file.ts";
import { readVector } from "../../../src/ffi/file-vector.ts";
import { pipe as makePipe } from "../../machine/console/far-end.ts";
import { leftOpen, openFiles } from "../../machine/proc.ts";
import { Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { TestWorker } from "./worker.ts";

const [readOps, readBytes, errors] = [0, 1, 2];
const buffersAt = 0x1_0000;
let folder = "";
let filesBefore: string[] = [];
let undo: (() => void)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "chv-rng-"));
  filesBefore = openFiles();
});
afterEach(() => {
  for (const release of undo.reverse()) release();
  undo = [];
  rmSync(folder, { recursive: true });
  expect(leftOpen(filesBefore)).toEqual([]);
});

/** An entropy device on a source, and its driver. */
class Entropy {
  readonly ram = new FakeRam([{ start: 0, length: 0x40_0000 }]);
  readonly worker = new TestWorker();
  readonly counters = new Float64Array(3);
  readonly backend: EntropyBackend;
  driver: Driver;
  calls = 0;

  constructor(
    readonly fd: number,
    readonly size = 16,
    read = readVector,
  ) {
    this.backend = new EntropyBackend({ fd }, this.worker, this.counters, read);
    this.driver = this.start();
    undo.push(() => {
      this.backend.close();
      this.worker.close();
      closeSync(fd);
    });
  }

  start(): Driver {
    this.driver = new Driver(this.ram, this.size);
    this.begin(0);
    return this.driver;
  }

  /** After `backend.stop`: a pause is over, and the driver is as it was. */
  resume(): void {
    this.begin(this.queue!.nextUsed);
  }

  private queue: Virtqueue | undefined;

  private begin(nextAvail: number): void {
    const options = { indirect: true, eventIndex: false, call: () => this.calls++, nextAvail };
    this.queue = new Virtqueue(this.ram.windows, this.driver.layout, options);
    this.backend.start([this.queue]);
  }

  /** A buffer to fill; what is in it before is 0xee. */
  offer(length: number, address = buffersAt): number {
    this.ram.bytes(address, length).fill(0xee);
    return this.driver.offer([{ address, length, write: true }]);
  }

  text(length: number, address = buffersAt): string {
    return Buffer.from(this.ram.bytes(address, length)).toString("latin1");
  }
}

const source = (path: string) =>
  open(path, Open.readOnly | Open.nonBlock | Open.noControllingTerminal);

function file(content: string | Uint8Array): Entropy {
  const path = join(folder, "source");
  writeFileSync(path, content);
  return new Entropy(source(path));
}

/** A pipe as a source, which has nothing until `feed`. */
function pipe(): { entropy: Entropy; feed: (text: string) => void; end: () => void } {
  const { read, write } = makePipe();
  const entropy = new Entropy(read);
  let open = true;
  const end = () => {
    if (open) closeSync(write);
    open = false;
  };
  undo.push(end);
  return { entropy, feed: (text) => void writeSync(write, text), end };
}

describe("/dev/urandom", () => {
  test("fills what is offered, each time with other bytes", () => {
    const entropy = new Entropy(source("/dev/urandom"));
    const first = entropy.offer(64);
    const second = entropy.offer(64, buffersAt + 0x1000);

    entropy.backend.kicked();

    expect(entropy.driver.collect()).toEqual([
      { head: first, written: 64 },
      { head: second, written: 64 },
    ]);
    const [one, two] = [entropy.text(64), entropy.text(64, buffersAt + 0x1000)];
    expect(one).not.toBe(two);
    expect(new Set(one).size).toBeGreaterThan(20); // 64 random bytes have about 57 values
    expect(entropy.calls).toBe(1);
    expect([entropy.counters[readOps], entropy.counters[readBytes]]).toEqual([2, 128]);
  });

  test("a greedy driver gets its bytes in turns, and part of a huge buffer", () => {
    const entropy = new Entropy(source("/dev/urandom"));
    for (let i = 0; i < 10; i++) entropy.offer(0x2_0000, buffersAt + i * 0x2_0000);

    entropy.backend.kicked();
    const turn = entropy.driver.collect();
    expect(turn.map(({ written }) => written)).toEqual([65536, 65536, 65536, 65536]);
    entropy.worker.pump(10_000);
    expect(entropy.driver.collect().length).toBe(4);
    entropy.worker.pump(10_000);
    expect(entropy.driver.collect().length).toBe(2);

    expect(entropy.worker.pump()).toBe(0);
    expect(entropy.driver.noNotify).toBe(false);
    expect(entropy.ram.guardsIntact).toBe(true);
  });

  test("a driver that offers without end leaves the worker time for others", () => {
    const entropy = new Entropy(source("/dev/urandom"), 512);
    for (let i = 0; i < 512; i++) entropy.offer(1, buffersAt + i);

    entropy.backend.kicked();

    expect(entropy.driver.collect().length).toBe(256);
    entropy.worker.pump(10_000);
    expect(entropy.driver.collect().length).toBe(256);
  });
});

describe("a file", () => {
  test("goes on where it was; its end gives what there is, then nothing, and one warning", () => {
    const entropy = file("abcdefghij");
    for (const at of [0, 16, 32, 48]) entropy.offer(8, buffersAt + at);

    entropy.backend.kicked();

    expect(entropy.driver.collect().map(({ written }) => written)).toEqual([8, 2, 0, 0]);
    expect(entropy.text(8)).toBe("abcdefgh");
    expect(entropy.text(3, buffersAt + 16)).toBe("ij\xee");
    expect(entropy.worker.warnings).toEqual([
      "the source has ended; the guest gets no entropy from it",
    ]);
    expect(entropy.worker.pump()).toBe(0); // nothing is tried again by itself
    expect(entropy.counters[errors]).toBe(2);
  });

  test("fills the writable part of a chain, wherever it is cut", () => {
    const entropy = file("abcdefghij");
    entropy.ram.bytes(buffersAt, 64).fill(0xee);
    const head = entropy.driver.offer(
      [
        { address: buffersAt, length: 4 },
        { address: buffersAt + 16, length: 3, write: true },
        { address: buffersAt + 32, length: 1, write: true },
        { address: buffersAt + 48, length: 5, write: true },
      ],
      0x8000,
    );

    entropy.backend.kicked();

    expect(entropy.driver.collect()).toEqual([{ head, written: 9 }]);
    expect(entropy.text(4)).toBe("\xee\xee\xee\xee");
    const parts = [16, 32, 48].map((at) => entropy.text(6, buffersAt + at).replace(/\xee+/, ""));
    expect(parts).toEqual(["abc", "d", "efghi"]);
  });

  test("a request with no room is given back", () => {
    const entropy = file("abc");
    const head = entropy.driver.offer([{ address: buffersAt, length: 4 }]);

    entropy.backend.kicked();

    expect(entropy.driver.collect()).toEqual([{ head, written: 0 }]);
    expect(entropy.worker.warnings).toEqual([]);
    expect(entropy.counters[readOps]).toBe(0);
  });
});

test("a source that fails gives the request back, with one warning that says why", () => {
  const entropy = new Entropy(openSync(join(folder, "out"), "w")); // not open for reading
  entropy.offer(8);
  entropy.offer(8, buffersAt + 8);

  entropy.backend.kicked();

  expect(entropy.driver.collect().map(({ written }) => written)).toEqual([0, 0]);
  expect(entropy.worker.warnings).toEqual([
    "the source fails: EBADF; the guest gets no entropy from it",
  ]);
});

describe("a source that has nothing yet", () => {
  test("is waited for, and what comes goes to the request that waited", () => {
    const { entropy, feed } = pipe();
    const first = entropy.offer(8);
    const second = entropy.offer(8, buffersAt + 16);

    entropy.backend.kicked();
    expect(entropy.driver.collect()).toEqual([]);
    expect(entropy.worker.pump()).toBe(0);
    entropy.backend.kicked(); // a kick meanwhile changes nothing
    feed("xyz");
    entropy.worker.pump(10_000);

    expect(entropy.driver.collect()).toEqual([{ head: first, written: 3 }]);
    expect(entropy.text(4)).toBe("xyz\xee");
    feed("12");
    entropy.worker.pump(10_000);
    expect(entropy.driver.collect()).toEqual([{ head: second, written: 2 }]);
    expect(entropy.worker.warnings).toEqual([]);
    expect(entropy.worker.watching(entropy.fd)).toBe(false);
  });

  test("and then ends, gives the request back", () => {
    const { entropy, end } = pipe();
    const head = entropy.offer(8);
    entropy.backend.kicked();

    end();
    entropy.worker.pump(10_000);

    expect(entropy.driver.collect()).toEqual([{ head, written: 0 }]);
    expect(entropy.worker.pump()).toBe(0);
  });

  test("is waited for after a pause, too", () => {
    const { entropy, feed } = pipe();
    const head = entropy.offer(8);
    entropy.backend.kicked();
    entropy.backend.stop();
    entropy.resume();
    entropy.backend.kicked();
    feed("abc");
    entropy.worker.pump(10_000);

    expect(entropy.driver.collect()).toEqual([{ head, written: 3 }]);
  });

  test("does not hold up a reset, after which nothing of the old rings is touched", () => {
    const { entropy, feed } = pipe();
    entropy.offer(8);
    entropy.backend.kicked();

    expect(entropy.backend.stop()).toBe(true);
    expect(entropy.worker.watching(entropy.fd)).toBe(false);
    feed("late");
    entropy.worker.settle();
    expect(entropy.text(8)).toBe("\xee".repeat(8));
    entropy.start();
    entropy.backend.kicked();
    expect(entropy.driver.collect()).toEqual([]);
    const head = entropy.offer(8);
    entropy.backend.kicked();

    expect(entropy.driver.collect()).toEqual([{ head, written: 4 }]);
  });
});

test("a source that has nothing yet and cannot be waited on is asked again", () => {
  const path = join(folder, "source");
  writeFileSync(path, "abcd");
  const answers = [-11, -4, -11]; // EAGAIN, EINTR, EAGAIN: what /dev/hwrng may say, which epoll does not take
  const read: typeof readVector = (...call) => answers.shift() ?? readVector(...call);
  const entropy = new Entropy(source(path), 16, read);
  const head = entropy.offer(8);

  entropy.backend.kicked();
  entropy.worker.pump(10_000);
  expect(answers).toEqual([]);
  expect(entropy.driver.collect()).toEqual([]);
  entropy.worker.pump(10_000);

  expect(entropy.driver.collect()).toEqual([{ head, written: 4 }]);
  expect(entropy.worker.pump()).toBe(0);
});

test("a reset in the midst of a long run ends it", () => {
  const entropy = new Entropy(source("/dev/urandom"));
  for (let i = 0; i < 8; i++) entropy.offer(0x1_0000, buffersAt + i * 0x1_0000);
  entropy.backend.kicked();

  entropy.backend.stop();
  entropy.worker.settle();

  expect(entropy.driver.collect().length).toBe(4);
});

test("a broken ring is the driver's fault; what came before it is given back", () => {
  const entropy = file("abcdefgh");
  const head = entropy.offer(4);
  entropy.driver.offer([{ address: 0x9000_0000, length: 4, write: true }]);

  expect(() => entropy.backend.kicked()).toThrow(GuestFault);

  expect(entropy.driver.collect()).toEqual([{ head, written: 4 }]);
});

test("a queue that the driver left out costs nothing", () => {
  const entropy = new Entropy(source("/dev/urandom"));
  entropy.backend.stop();
  entropy.backend.start([undefined]);

  expect(() => entropy.backend.kicked()).not.toThrow();
});
