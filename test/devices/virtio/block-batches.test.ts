/** In which portions a disk's requests begin, and in which the driver hears of their end. */
import { expect, test } from "bun:test";
import type { DiskImage, ImageClient } from "../../../src/devices/images/disk-image.ts";
import { Disk } from "./disk.ts";

const none = new Uint8Array(0);
const [IN, sectorBytes] = [0, 512];

/** Reads that begin at `turn`, and end when the test says so. */
class SlowImage implements DiskImage {
  readonly fd = -1;
  readonly queued: number[] = [];
  readonly begun: number[] = [];
  /** How many had begun after each turn that began some. */
  readonly sums: number[] = [];

  constructor(readonly client: ImageClient) {}

  read(slot: number): void {
    this.queued.push(slot);
  }
  turn(): void {
    if (this.queued.length === 0) return;
    this.begun.push(...this.queued.splice(0));
    this.sums.push(this.begun.length);
  }
  write(): void {}
  flush(): void {}
  discard(): void {}
  writeZeroes(): void {}
  close(): void {}
}

function offered(direct: boolean, requests = 32, bytes = sectorBytes) {
  const images: SlowImage[] = [];
  const disk = new Disk({
    ...{ direct, queueSize: 64, uring: false, content: new Uint8Array(bytes) },
    openImage: (_spec, _transfers, client) => {
      images.push(new SlowImage(client));
      return images[0]!;
    },
  });
  for (let i = 0; i < requests; i++) disk.send(IN, 0, none, bytes, {}, 0x2_0000 + i * 1024);
  disk.backend.kicked(0);
  return { disk, image: images[0]! };
}

test("through the page cache requests begin in batches", () => {
  const { disk, image } = offered(false);
  using _ = disk;

  expect(image.sums).toEqual([8, 16, 24, 32]);
});

test("of long ones one is left for when the driver is told of the others", () => {
  for (const [requests, sums] of [
    [5, [4, 5]],
    [4, [3, 4]],
    [1, [1]],
  ] as const) {
    const { disk, image } = offered(false, requests, 2 ** 18);
    using _ = disk;

    expect(image.sums).toEqual([...sums]);
  }
});

test("past it the disk has the first at once, and more with each batch", () => {
  const { disk, image } = offered(true);
  using _ = disk;

  expect(image.sums).toEqual([1, 3, 7, 15, 23, 31, 32]);
});

test("the driver hears of the first that has ended, and then of portions", () => {
  const { disk, image } = offered(true);
  using _ = disk;

  const heard = image.begun.map((slot) => {
    image.client.ended(slot, 0);
    return disk.drivers[0]!.usedIndex;
  });

  const portions = [1, 9, 17, 25].flatMap((told) => Array<number>(8).fill(told));
  expect(heard).toEqual(portions);
});
