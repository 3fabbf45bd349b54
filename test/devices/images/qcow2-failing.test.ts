/** A qcow2 image on a host that fails, and moves less than it was asked for. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { ImageFile } from "./qcow2-check.ts";
import { calmRig, type MemoryOptions, memoryRig, randomOf } from "./qcow2-memory.ts";
import { makeImage, numbered, testFolder } from "./qcow2-scenarios.ts";

// errno.h
const [EINTR, EIO, EAGAIN, ENOSPC] = [4, 5, 11, 28];
const cluster = 4096;
const size = 2 ** 18;

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));

let [empty, full, packed] = ["", "", ""];
beforeAll(() => {
  const options = "cluster_size=4k";
  empty = makeImage(folder, { name: "empty", options, size }).path;
  full = makeImage(folder, { name: "full", options, size, filled: true }).path;
  packed = makeImage(folder, {
    ...{ name: "packed", options, size },
    filled: true,
    compressed: true,
  }).path;
});
const content = numbered(size, 0x1000_0000);
const bytes = (length: number, value: number) => new Uint8Array(length).fill(value);

describe("a host that fails", () => {
  test("has its errno reach the request, and no other", () => {
    const { rig, options } = calmRig(full);
    options.fail = (kind, offset) => (kind === "read" && offset >= 2 * cluster ? -EIO : undefined);
    rig.startRead(0, 0, 512);
    expect(rig.wait(0)).toBe(EIO);

    options.fail = undefined;
    expect(rig.read(0, 1024)).toEqual(content.subarray(0, 1024));
    rig.close();
  });

  test("is asked again when it was interrupted, for a while", () => {
    const { rig, ring, options } = calmRig(empty);
    let refused = 0;
    options.fail = () => (++refused % 3 === 0 ? undefined : refused % 3 === 1 ? -EINTR : -EAGAIN);
    expect(rig.write(5000 - (5000 % 512), bytes(1024, 3))).toBe(0);
    expect(rig.flush()).toBe(0);
    expect(rig.read(4608, 1024)).toEqual(bytes(1024, 3));
    rig.close();
    expect(new ImageFile(ring.image.content).check()).toEqual({ corruptions: [], leaks: 0 });

    const other = calmRig(full, { fail: () => -EAGAIN });
    other.rig.startRead(0, 0, 512);
    expect(other.rig.wait(0)).toBe(EAGAIN);
  });

  test("that moves a part is asked for the rest", () => {
    const { rig, ring, options } = calmRig(full);
    options.fail = (kind, _, length) => (kind === "sync" || length <= 512 ? undefined : 512);
    const data = numbered(3 * cluster, 77);
    expect(rig.write(512, data, false, [100, 5000])).toBe(0);
    expect(rig.zero(10 * cluster + 512, 1024)).toBe(0);
    expect(rig.flush()).toBe(0);
    expect(rig.read(0, 4 * cluster, [1000]).subarray(512, 512 + data.length)).toEqual(data);
    rig.close();
    expect(new ImageFile(ring.image.content).check()).toEqual({ corruptions: [], leaks: 0 });
  });

  test("without room fails the write, and what was taken for it is free again", () => {
    const { rig, ring, options } = calmRig(empty);
    options.fail = (kind, _, length) =>
      kind === "write" && length === 3 * cluster ? -ENOSPC : undefined;
    expect(rig.write(0, bytes(3 * cluster, 1))).toBe(ENOSPC);
    expect(rig.read(0, cluster)).toEqual(bytes(cluster, 0));
    options.fail = undefined;
    expect(rig.write(0, bytes(3 * cluster, 2))).toBe(0);
    rig.close();
    expect(new ImageFile(ring.image.content).check()).toEqual({ corruptions: [], leaks: 0 });
  });

  test("without room for tables fails the flush; the next one does it", () => {
    const { rig, ring, options } = calmRig(empty);
    expect(rig.write(0, bytes(cluster, 1))).toBe(0);
    options.fail = (kind) => (kind === "write" ? -ENOSPC : undefined);
    expect(rig.flush()).toBe(ENOSPC);
    expect(rig.read(0, 512)).toEqual(bytes(512, 1));
    options.fail = undefined;
    expect(rig.flush()).toBe(0);
    expect(new ImageFile(ring.image.content).sector(0)).toEqual(bytes(512, 1));
    rig.close();
  });

  test("whose fdatasync fails once is not believed again: nothing new is entered", () => {
    const { rig, ring, options } = calmRig(full);
    expect(rig.zero(0, cluster)).toBe(0);
    options.fail = (kind) => (kind === "sync" ? -EIO : undefined);
    expect(rig.flush()).toBe(EIO);
    options.fail = undefined;
    const before = ring.record.length;

    expect(rig.flush()).toBe(EIO);
    expect(rig.zero(cluster, cluster)).toBe(EIO);
    expect(rig.write(2 * cluster, bytes(512, 9))).toBe(0); // in place
    expect(rig.read(2 * cluster, 512)).toEqual(bytes(512, 9));
    rig.close();
    expect(ring.record.slice(before).map(({ kind }) => kind)).toEqual(["write"]);
  });

  test("that fails at any time leaves a sound image, and nothing hangs", () => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = randomOf(seed);
      const fail: MemoryOptions["fail"] = (kind, _, length) => {
        if (kind === "sync" || random(25) > 0) return undefined;
        return random(3) === 0 ? Math.min(512, length) : -[EIO, ENOSPC, EINTR][random(3)]!;
      };
      const { rig, ring } = memoryRig(seed % 2 ? full : packed, random, {
        slots: 4,
        memory: { fail },
      });
      for (let step = 0; step < 60; step++) {
        const slot = step % 4;
        const [offset, length] = [random(400) * 512, (1 + random(100)) * 512];
        const kind = random(6);
        if (kind < 3) rig.startWrite(slot, offset, bytes(length, step));
        else if (kind === 3) rig.startZero(slot, offset, length, random(2) === 0);
        else if (kind === 4) rig.startRead(slot, offset, length);
        else rig.startFlush(slot);
        rig.wait(slot);
      }
      rig.close();
      expect(new ImageFile(ring.image.content).check().corruptions).toEqual([]);
    }
  });
});
