/** A raw image on a host that stops short, fails, and does not know what it is asked for. */
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RawImage } from "../../../src/devices/images/raw.ts";
import { Transfers } from "../../../src/devices/images/transfers.ts";
import { Block } from "../../../src/ffi/block.ts";
import { canPunch } from "../../../src/ffi/file-vector.ts";
import { ScriptedChores, ScriptedHost, ScriptedRing } from "./host.ts";

// errno.h, linux/falloc.h, linux/fs.h
const [EINTR, EIO, EAGAIN, EINVAL, ENOSPC, EOPNOTSUPP] = [4, 5, 11, 22, 28, 95];
const [KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, DSYNC] = [1, 2, 16, 2];

const folder = mkdtempSync(join(tmpdir(), "chv-raw-"));
const fd = openSync(join(folder, "image"), "w+");
afterAll(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});
const bytes = 2 ** 20;
const content = Uint8Array.from({ length: bytes }, (_, i) => ((i * 13 + (i >> 9)) % 255) + 1);
beforeEach(() => {
  ftruncateSync(fd, bytes);
  writeSync(fd, content, 0, bytes, 0);
});
const stored = () => {
  const found = new Uint8Array(bytes);
  readSync(fd, found, 0, bytes, 0);
  return found;
};

describe.each([
  ["with a ring", true],
  ["without a ring", false],
])("%s", (_, ringed) => {
  /** An image with two slots of eight pieces, and 64 KiB of memory at no alignment. */
  function setUp(direct = false) {
    const host = new ScriptedHost();
    const transfers = new Transfers(2, 8);
    const ended: { slot: number; error: number }[] = [];
    const client = { ended: (slot: number, error: number) => ended.push({ slot, error }) };
    const chores = new ScriptedChores(host);
    const way = ringed ? new ScriptedRing(host) : chores;
    const image = new RawImage(fd, transfers, client, way, direct, host);
    const turn = () => {
      do image.turn();
      while (chores.pending);
    };
    const memory = new Block(0x1_0001);
    const shift = memory.address % 2 === 0 ? 1 : 0;
    /** Lays pieces of memory, one behind the other, into a slot. */
    const lay = (slot: number, offset: number, lengths: readonly number[]) => {
      const view = new DataView(transfers.words.buffer);
      let at = shift;
      for (const [i, length] of lengths.entries()) {
        const place = (slot * 8 + i) * 16;
        view.setBigUint64(place, BigInt(memory.address + at), true);
        view.setBigUint64(place + 8, BigInt(length), true);
        at += length;
      }
      transfers.set(slot, offset, at - shift, lengths.length);
      return memory.bytes.subarray(shift, at);
    };
    return { host, image, turn, transfers, ended, lay };
  }

  test.each([1, 7, 512, 1000, 5000])("transfers of %d bytes at most end complete", (limit) => {
    const { host, image, turn, ended, lay } = setUp();
    host.limit = limit;
    const into = lay(0, 1000, [512, 1, 700, 2000]);
    image.read(0);
    turn();
    expect(into).toEqual(content.subarray(1000, 4213));

    into.fill(0x77);
    lay(0, 9000, [512, 1, 700, 2000]);
    image.write(0, false);
    turn();

    expect(stored()).toEqual(content.slice().fill(0x77, 9000, 12213));
    expect(ended).toEqual([
      { slot: 0, error: 0 },
      { slot: 0, error: 0 },
    ]);
  });

  test("what was interrupted is tried again, for a while", () => {
    const { host, image, turn, ended, lay } = setUp();
    host.script.push(-EINTR, -EAGAIN);
    const into = lay(0, 0, [512]);
    image.read(0);
    turn();
    expect(into).toEqual(content.subarray(0, 512));

    host.script.push(...Array(200).fill(-EAGAIN));
    image.flush(1);
    turn();

    expect(ended).toEqual([
      { slot: 0, error: 0 },
      { slot: 1, error: EAGAIN },
    ]);
  });

  test.each([
    ["a failure", [-ENOSPC], ENOSPC],
    ["a failure after a part", [undefined, -EIO], EIO],
    ["nothing more", [undefined, 0], EIO],
    ["an alignment that is refused", [-EINVAL], EINVAL],
  ])("%s ends a transfer with its errno", (_name, script, error) => {
    const { host, image, turn, ended, lay } = setUp();
    host.limit = 100;
    host.script.push(...script);
    lay(1, 0, [512, 512]);

    image.write(1, false);
    turn();

    expect(ended).toEqual([{ slot: 1, error }]);
  });

  test("a durable write is a synchronous one, or one with an fdatasync behind it", () => {
    const { host, image, turn, lay } = setUp();
    host.limit = 512;
    for (const durable of [true, false]) {
      lay(0, 4096, [512, 512]);
      image.write(0, durable);
      turn();
    }

    const pieces = (flags: number) => Array(2).fill(["write", flags]);
    const stable = ringed ? pieces(DSYNC) : [...pieces(0), ["sync", 0]];
    expect(host.calls.map(({ name, flags }) => [name, flags])).toEqual([...stable, ...pieces(0)]);
  });

  test("a flush is an fdatasync, and its failure is told", () => {
    const { host, image, turn, ended } = setUp();
    host.script.push(-EIO);

    image.flush(0);
    turn();

    expect(host.calls.map(({ name }) => name)).toEqual(["sync"]);
    expect(ended).toEqual([{ slot: 0, error: EIO }]);
  });

  test.each([
    ["as a hole", [], [PUNCH_HOLE | KEEP_SIZE]],
    ["as zeroes", [-EOPNOTSUPP], [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE]],
  ])("zeroes that may unmap come %s", (_name, script, modes) => {
    const { host, image, turn, transfers, ended } = setUp();
    host.script.push(...script);
    transfers.set(0, 8192, 65536, 0);

    image.writeZeroes(0, true, false);
    turn();

    expect(host.calls.map(({ flags }) => flags)).toEqual(modes);
    expect(stored()).toEqual(content.slice().fill(0, 8192, 73728));
    expect(ended).toEqual([{ slot: 0, error: 0 }]);
  });

  test("on a host that knows neither, zeroes are written, piece by piece", () => {
    const { host, image, turn, transfers, ended } = setUp();
    host.script.push(-EOPNOTSUPP);
    host.limit = 200_000;
    transfers.set(0, 512, bytes - 1024, 0);

    image.writeZeroes(0, false, true);
    turn();

    const [first, ...rest] = host.calls;
    expect(first!.flags).toBe(ZERO_RANGE | KEEP_SIZE);
    if (ringed) {
      expect(rest.length).toBeGreaterThan(5);
      expect(rest.every(({ name, flags }) => name === "write" && flags === DSYNC)).toBe(true);
    } else {
      expect(rest.map(({ name }) => name)).toEqual(["zero", "sync"]);
    }
    expect(stored()).toEqual(content.slice().fill(0, 512, bytes - 512));
    expect(ended).toEqual([{ slot: 0, error: 0 }]);
  });

  test("durable zeroes end with an fdatasync", () => {
    const { host, image, turn, transfers, ended } = setUp();
    for (const unmap of [true, false]) {
      transfers.set(0, 4096, 4096, 0);
      image.writeZeroes(0, unmap, true);
      turn();
    }
    expect(host.calls.map(({ name }) => name)).toEqual(["allocate", "sync", "allocate", "sync"]);

    host.script.push(0, -EIO);
    image.writeZeroes(1, true, true);
    turn();

    expect(ended.at(-1)).toEqual({ slot: 1, error: EIO });
  });

  test.each([
    ["cannot be done is ignored", -EOPNOTSUPP, 0],
    ["fails is told", -EIO, EIO],
  ])("a discard that %s", (_name, result, error) => {
    const { host, image, turn, transfers, ended } = setUp();
    host.script.push(result);
    transfers.set(0, 0, 4096, 0);

    image.discard(0);
    turn();

    expect(ended).toEqual([{ slot: 0, error }]);
    expect(stored()).toEqual(content);
  });

  test.each([512, 4096])("memory off O_DIRECT's alignment of %d is no obstacle", (alignment) => {
    const { host, image, turn, ended, lay } = setUp(true);
    host.alignment = alignment;
    const into = lay(0, 4096, [500, 12, 20_000, 12_256]);
    image.read(0);
    turn();
    expect(into).toEqual(content.subarray(4096, 4096 + 32_768));

    into.fill(0x55);
    lay(1, 65_536, [500, 12, 20_000, 12_256]);
    image.write(1, true);
    turn();

    expect(stored()).toEqual(content.slice().fill(0x55, 65_536, 65_536 + 32_768));
    expect(host.calls.at(-1)!.name).toBe("sync");
    expect(ended.map(({ error }) => error)).toEqual([0, 0]);
  });

  test("two requests at once do not mix", () => {
    const { host, image, turn, ended, lay } = setUp();
    host.limit = 300;
    const into = lay(0, 0, [1000]).slice();
    const memory = lay(0, 0, [1000]);
    expect(into.length).toBe(1000);
    image.read(0);
    image.flush(1);
    turn();

    expect(memory).toEqual(content.subarray(0, 1000));
    expect(ended.map(({ slot }) => slot).toSorted()).toEqual([0, 1]);
  });
});

test("without a ring, more chores than there is room for wait, and reads do not wait for them", () => {
  const host = new ScriptedHost();
  const chores = new ScriptedChores(host, 1);
  const transfers = new Transfers(4, 1);
  const ended: number[] = [];
  const image = new RawImage(
    fd,
    transfers,
    { ended: (slot) => ended.push(slot) },
    chores,
    false,
    host,
  );
  const memory = new Block(512);
  new DataView(transfers.words.buffer).setBigUint64(3 * 16, BigInt(memory.address), true);
  new DataView(transfers.words.buffer).setBigUint64(3 * 16 + 8, 512n, true);
  transfers.set(3, 1024, 512, 1);

  for (const slot of [0, 1, 2]) image.flush(slot);
  image.read(3);
  image.turn();
  expect([ended, host.calls.length]).toEqual([[3], 2]);
  expect(memory.bytes).toEqual(content.subarray(1024, 1536));
  image.turn();
  image.turn();
  image.turn();

  expect(ended).toEqual([3, 0, 1, 2]);
});

describe("where nothing else waits for the thread", () => {
  /** Slots of one piece of 4 KiB, and a clock that each call moves on. */
  function setUp(direct = false) {
    const host = new ScriptedHost();
    const ring = new ScriptedRing(host);
    const ended: number[] = [];
    const queued: number[] = [];
    const byRing = ring.write;
    ring.write = (...words) => {
      queued.push(words[5]);
      byRing.apply(ring, words);
    };
    const transfers = new Transfers(4, 1);
    const clock = { ns: 1e9, perCall: 1000 };
    const now = () => {
      clock.ns += clock.perCall;
      return clock.ns;
    };
    const client = { alone: true, ended: (slot: number) => ended.push(slot) };
    const image = new RawImage(fd, transfers, client, ring, direct, host, now);
    const memory = new Block(0x2_0000);
    memory.bytes.fill(0x42);
    const write1 = (slot: number, length = 512, durable = false) => {
      const view = new DataView(transfers.words.buffer);
      view.setBigUint64(slot * 16, BigInt(memory.address), true);
      view.setBigUint64(slot * 16 + 8, BigInt(length), true);
      transfers.set(slot, 4096 * slot, length, 1);
      image.write(slot, durable);
      image.turn();
    };
    return { host, image, ended, queued, clock, write: write1 };
  }

  test("short writes to the page cache are made at once, others by the ring", () => {
    const { write, queued, ended, host } = setUp();
    write(0);
    expect(queued).toEqual([]);
    expect(stored().subarray(0, 512)).toEqual(new Uint8Array(512).fill(0x42));
    write(1, 512, true);
    write(2, 65_536 + 512);
    expect([queued, ended]).toEqual([
      [1, 2],
      [0, 1, 2],
    ]);

    host.limit = 500; // the rest of one that stops short
    write(3);
    expect([queued, ended]).toEqual([
      [1, 2, 3],
      [0, 1, 2, 3],
    ]);
    expect(stored().subarray(12_288, 12_800)).toEqual(new Uint8Array(512).fill(0x42));
    const direct = setUp(true);
    direct.write(0);
    expect(direct.queued).toEqual([0]);
  });

  test("when they take long, the ring has them for a while", () => {
    const { write, queued, clock } = setUp();
    clock.perCall = 20e6;
    write(0);
    expect(queued).toEqual([]);
    clock.perCall = 1000;
    write(0);
    clock.ns += 0.05e9;
    write(1);
    expect(queued).toEqual([0, 1]);

    clock.ns += 0.1e9;
    clock.perCall = 20e6;
    write(2);
    expect(queued).toEqual([0, 1]);
    // again so soon: longer
    clock.perCall = 1000;
    clock.ns += 0.15e9;
    write(3);
    expect(queued).toEqual([0, 1, 3]);
    clock.ns += 0.1e9;
    write(0);
    expect(queued).toEqual([0, 1, 3]);
  });

  test("a thread that loses its processor now and then goes on", () => {
    const { write, queued, clock } = setUp();
    for (let i = 0; i < 1000; i++) {
      clock.perCall = i % 100 === 0 ? 4e6 : 5000;
      write(0);
    }
    expect(queued).toEqual([]);
  });
});

test("whether a file can have holes is found out without touching it", () => {
  expect(canPunch(fd, bytes)).toBe(true);
  expect(stored()).toEqual(content);

  const pipe = openSync("/dev/null", "w");
  expect(canPunch(pipe, 0)).toBe(true); // ENODEV: not an answer of a file system
  closeSync(pipe);
});
