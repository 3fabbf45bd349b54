/** When a write must be stable before it is answered (virtio 1.2 sections 5.2.5 and 5.2.6.2). */
import { expect, test } from "bun:test";
import type { DiskImage } from "../../../src/devices/images/disk-image.ts";
import { BlockBackend } from "../../../src/devices/virtio/block.ts";
import { Disk } from "./disk.ts";

const [OUT, WRITE_ZEROES] = [1, 13];
const [FLUSH, CONFIG_WCE, ZEROES] = [1n << 9n, 1n << 11n, 1n << 14n];
const zeroesRange = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);

/** What the image is told of a write, and of zeroes, by a device of these options; `wce` is what the driver sets. */
function durability(writeback: boolean, features: bigint, wce?: boolean): boolean[] {
  using disk = new Disk({ writeback });
  const told: boolean[] = [];
  const backend = new BlockBackend(
    disk.spec,
    disk,
    disk.config,
    disk.counters,
    (_spec, _transfers, client, ring): DiskImage => {
      ring?.close();
      const end = (slot: number, durable: boolean) => {
        told.push(durable);
        client.ended(slot, 0);
      };
      return {
        fd: -1,
        read() {},
        write: end,
        flush() {},
        discard() {},
        writeZeroes: (slot, _unmap, durable) => end(slot, durable),
        turn() {},
        close() {},
      };
    },
  );
  backend.start(disk.queues, features | ZEROES);
  if (wce !== undefined) disk.writeback = wce;
  disk.send(OUT, 0, new Uint8Array(512), 0);
  disk.send(WRITE_ZEROES, 0, zeroesRange, 0, {}, 0x3_0000);
  backend.kicked(0);
  return told;
}

test.each([
  ["a driver that flushes has a cache", true, FLUSH, undefined, false],
  ["a driver that does not flush has none", true, 0n, undefined, true],
  ["wce=off has none", false, FLUSH, undefined, true],
  ["a driver that may switch finds it on", true, FLUSH | CONFIG_WCE, undefined, false],
  ["a driver may switch it off", true, FLUSH | CONFIG_WCE, false, true],
  ["a driver that may switch finds wce=off", false, FLUSH | CONFIG_WCE, undefined, true],
  ["a driver may switch it on", false, FLUSH | CONFIG_WCE, true, false],
  ["no switch helps a driver that does not flush", true, CONFIG_WCE, true, true],
  ["a switch that was not accepted does nothing", true, FLUSH, false, false],
] as const)("%s", (_name, writeback, features, wce, durable) => {
  expect(durability(writeback, features, wce)).toEqual([durable, durable]);
});

test("a driver that does not flush finds the switch off", () => {
  using disk = new Disk({ writeback: true });
  const wce = 32; // its place in struct virtio_blk_config
  disk.backend.stop(() => {});
  disk.backend.start(disk.queues, FLUSH | CONFIG_WCE);
  expect(disk.config[wce]).toBe(1);
  disk.backend.stop(() => {});
  disk.backend.start(disk.queues, CONFIG_WCE);

  expect(disk.config[wce]).toBe(0);
});
