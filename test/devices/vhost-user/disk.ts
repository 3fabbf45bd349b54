/** A real disk behind a vhost-user socket, for a test's front end. */
import { closeSync, readSync } from "node:fs";
import { BlockBackend } from "../../../src/devices/virtio/block.ts";
import {
  type BlockSpec,
  blockConfig,
  blockConfigWritable,
} from "../../../src/devices/virtio/block-config.ts";
import { truncate } from "../../../src/ffi/file.ts";
import { memfd } from "../../../src/ffi/memory.ts";
import { Rig, type SharedRam } from "./front-end.ts";
import { INDIRECT, type TestQueue, VERSION_1 } from "./queues.ts";

/** VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE. */
const [FLUSH, CONFIG_WCE] = [1n << 9n, 1n << 11n];
const sectorBytes = 512;
export const diskFeatures = VERSION_1 | INDIRECT | FLUSH | CONFIG_WCE;

export class DiskRig extends Rig {
  readonly #file: number;

  constructor(sectors = 64, queues = 1) {
    const file = memfd("test-disk", false);
    truncate(file, sectors * sectorBytes);
    const spec: BlockSpec = {
      ...{ fd: file, sectors, readonly: false, direct: false, serial: "vhost-user", queues },
      ...{ queueSize: 16, writeback: true, blockSize: 512, physicalBlockSize: 4096 },
      ...{ discard: false, uring: true },
    };
    const model = {
      ...{ features: diskFeatures, queues, queueCount: queues, tracksInFlight: true },
      ...{ config: blockConfig(spec), writable: blockConfigWritable(spec) },
    };
    super(model, (host, config) => new BlockBackend(spec, host, config));
    this.#file = file;
  }

  content(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    readSync(this.#file, bytes, 0, length, offset);
    return bytes;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    closeSync(this.#file);
  }
}

/** Places of a request in guest memory, beside its data. */
const [headerAt, statusAt] = [0x8000, 0x8100];

/** Offers a request for `length` bytes at a guest address; its chain's head. */
export function offerRequest(
  queue: TestQueue,
  ram: SharedRam,
  type: number,
  sector: number,
  data: number,
  length: number,
): number {
  const [header, status] = [ram.guest + headerAt, ram.guest + statusAt];
  const view = ram.view(header, 16);
  view.setUint32(0, type, true);
  view.setUint32(4, 0, true);
  view.setBigUint64(8, BigInt(sector), true);
  ram.view(status, 1).setUint8(0, 0xee);
  return queue.driver.offer([
    { address: header, length: 16 },
    { address: data, length, write: type === 0 },
    { address: status, length: 1, write: true },
  ]);
}

export const statusOf = (ram: SharedRam): number => ram.view(ram.guest + statusAt, 1).getUint8(0);
