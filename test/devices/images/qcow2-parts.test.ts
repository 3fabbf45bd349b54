/** The small parts of a qcow2 image against models of them. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Frees } from "../../../src/devices/images/qcow2/frees.ts";
import { MetadataMap } from "../../../src/devices/images/qcow2/metadata-map.ts";
import { SliceCache } from "../../../src/devices/images/qcow2/slice-cache.ts";
import { Waits } from "../../../src/devices/images/qcow2/waits.ts";

test("the map of metadata is a set", () => {
  const cluster = fc.oneof(fc.nat(600), fc.constantFrom(2 ** 31, 2 ** 32 + 5, 2 ** 40));
  const step = fc.tuple(fc.boolean(), cluster);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 1500, size: "max" }), (steps) => {
      const map = new MetadataMap();
      const model = new Set<number>();
      for (const [adds, number] of steps) {
        if (adds) {
          expect(map.add(number)).toBe(!model.has(number));
          model.add(number);
        } else {
          map.delete(number);
          model.delete(number);
        }
      }
      for (let number = 0; number <= 600; number++) {
        expect(map.has(number)).toBe(model.has(number));
      }
      expect(map.has(2 ** 32 + 5)).toBe(model.has(2 ** 32 + 5));
    }),
    { numRuns: 20 },
  );
});

describe("the cache of slices", () => {
  /** Claims a slice, and says that it is loaded. */
  const load = (cache: SliceCache, tag: number) => {
    const slice = cache.claim(tag);
    if (slice >= 0) cache.loaded(slice);
    return slice;
  };

  test("finds what it has, and forgets what was not used lately", () => {
    const cache = new SliceCache(4, 512);
    for (const tag of [10, 14, 18, 2 ** 40]) load(cache, tag);
    for (const tag of [10, 14, 18, 2 ** 40]) expect(cache.tag(cache.find(tag))).toBe(tag);

    load(cache, 22);
    cache.find(14);
    cache.find(22);
    load(cache, 26);
    load(cache, 30);

    expect([14, 22, 26, 30].map((tag) => cache.find(tag) >= 0)).not.toContain(false);
    expect([10, 18, 2 ** 40].map((tag) => cache.find(tag))).toEqual([-1, -1, -1]);
  });

  test("keeps what is dirty, pinned or being loaded", () => {
    const cache = new SliceCache(3, 512);
    cache.soil(load(cache, 1));
    cache.pin(load(cache, 2));
    cache.claim(3);

    expect(cache.claim(4)).toBe(-1);
    expect(cache.dirtyCount).toBe(1);
    cache.clean(cache.find(1));
    expect(cache.dirtyCount).toBe(0);
    expect(cache.claim(4)).toBeGreaterThanOrEqual(0);
    expect(cache.find(1)).toBe(-1);
    cache.unpin(cache.find(2));
    expect(cache.claim(5)).toBeGreaterThanOrEqual(0);
  });

  test("lays slices for O_DIRECT, one behind the other", () => {
    const cache = new SliceCache(3, 4096);
    expect([0, 1, 2].map((slice) => cache.address(slice) % 4096)).toEqual([0, 0, 0]);
    expect(cache.address(2) - cache.address(0)).toBe(8192);
    expect(cache.view.byteLength).toBe(12_288);
  });
});

test("tasks go on in the order in which they came, with the error of what they waited for", () => {
  const waits = new Waits(8, 3);
  waits.park(1, 5);
  waits.park(0, 3);
  waits.park(1, 2);
  waits.makeReady(7);
  waits.wake(1, 28);
  waits.move(0, 2);

  expect([waits.next(), waits.next(), waits.next(), waits.next()]).toEqual([7, 5, 2, -1]);
  expect([5, 2, 7].map((task) => waits.takeError(task))).toEqual([28, 28, 0]);
  expect(waits.takeError(5)).toBe(0);
  expect([waits.isEmpty(0), waits.isEmpty(2)]).toEqual([true, false]);
});

test("clusters to free are joined to runs, but not with what is committed", () => {
  const frees = new Frees();
  frees.add(10, 2);
  frees.add(12, 1);
  frees.add(20, 1);
  frees.commit();
  frees.add(21, 4);
  expect(frees.letGoCount).toBe(0);
  frees.letGo();

  expect(frees.letGoCount).toBe(2);
  expect([frees.start(0), frees.count(0), frees.start(1), frees.count(1)]).toEqual([10, 3, 20, 1]);
  frees.drop();
  expect([frees.isEmpty, frees.hasCommitted, frees.start(0)]).toEqual([false, false, 21]);
  expect(frees.hasRoom(8191)).toBe(true);
  frees.reserve(8000);
  expect([frees.hasRoom(191), frees.hasRoom(192)]).toEqual([true, false]);
});
