/** The disk and what its host is like: a full one, one with O_DIRECT, one whose file is cut short, a block device. */
import { afterAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  constants,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Disk } from "./disk.ts";

const sector = 512;
const [IN, OUT, FLUSH, DISCARD, WRITE_ZEROES] = [0, 1, 4, 11, 13];
const [OK, IOERR] = [0, 1];
const none = new Uint8Array(0);
const folder = mkdtempSync(join(tmpdir(), "chv-host-"));
afterAll(() => rmSync(folder, { recursive: true }));

const pattern = (length: number, seed = 1) =>
  Uint8Array.from({ length }, (_, i) => ((i * 31 + (i >> 8) * 17 + seed) % 255) + 1);

function range(from: number, count: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(from), true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

/** Whether the file system of the temporary folder takes O_DIRECT. */
const takesDirect = (() => {
  try {
    closeSync(
      openSync(join(folder, "probe"), constants.O_CREAT | constants.O_RDWR | constants.O_DIRECT),
    );
    return true;
  } catch {
    return false;
  }
})();

describe.each([
  ["by io_uring", true],
  ["by preadv2 and pwritev2", false],
])("%s", (_, uring) => {
  test("ENOSPC is an I/O error, one warning, and the disk goes on", () => {
    const full = openSync("/dev/full", "r+"); // reads as zeroes, and has no room
    using device = new Disk({ uring, fd: full, queueSize: 32 });

    for (let i = 0; i < 3; i++) {
      expect(device.request(OUT, i, pattern(2 * sector), 0).status).toBe(IOERR);
    }
    expect(device.request(IN, 0, none, sector)).toMatchObject({
      ...{ status: OK, data: new Uint8Array(sector) },
    });

    expect(device.warnings).toEqual([expect.stringContaining("ENOSPC")]);
    expect(device.counters[7]).toBe(3);
    closeSync(full);
  });

  test("a file that is cut short in the midst of requests: each ends, and growing back helps", () => {
    const content = pattern(256 * sector);
    using device = new Disk({ uring, content, queueSize: 64 });
    const send = () =>
      Array.from({ length: 16 }, (_, i) =>
        device.send(IN, i * 16, none, 8 * sector, {}, 0x2_0000 + i * 0x2000),
      );
    ftruncateSync(device.fd, 100 * sector);

    const waits = send();
    device.backend.kicked(0);
    const statuses = waits.map((wait) => wait().status);
    ftruncateSync(device.fd, 256 * sector);

    expect(statuses).toEqual([...Array(6).fill(OK), ...Array(10).fill(IOERR)]);
    expect(device.request(FLUSH, 0, none, 0).status).toBe(OK);
    expect(device.request(IN, 200, none, sector)).toMatchObject({
      ...{ status: OK, data: new Uint8Array(sector) },
    });
  });

  test.skipIf(!takesDirect)("O_DIRECT: blocks at any alignment of memory, zeroes and holes", () => {
    const path = join(folder, `direct-${uring}`);
    const content = pattern(2 ** 20);
    writeFileSync(path, content);
    const fd = openSync(path, constants.O_RDWR | constants.O_DIRECT);
    using device = new Disk({
      ...{ uring, fd, direct: true, blockSize: 4096, sectors: 2048, queueSize: 64, content },
    });
    const framings = [
      {},
      { cutWritable: [4096], cutReadable: [16] },
      { cutReadable: [16, 5, 4000] },
    ];

    for (const [i, framing] of framings.entries()) {
      const data = pattern(4 * 4096, i + 7);
      expect(device.request(OUT, 64 + i * 32, data, 0, framing).status).toBe(OK);
      expect(device.request(IN, 64 + i * 32, none, data.length, framing).data).toEqual(data);
      content.set(data, (64 + i * 32) * sector);
    }
    expect(device.request(FLUSH, 0, none, 0).status).toBe(OK);
    const before = device.allocated;
    expect(device.request(DISCARD, 0, range(1024, 512), 0).status).toBe(OK);
    expect(device.request(WRITE_ZEROES, 0, range(512, 8), 0).status).toBe(OK);
    content.fill(0, 1024 * sector, 1536 * sector).fill(0, 512 * sector, 520 * sector);

    expect(Buffer.compare(readFileSync(path), content)).toBe(0);
    expect(device.allocated).toBe(before - 512 * sector);
    expect(device.request(IN, 2040, none, 4096).data).toEqual(content.subarray(2040 * sector));
    expect(device.warnings).toEqual([]);
    closeSync(fd);
  });

  test.skipIf(!takesDirect)("O_DIRECT of half a block is an I/O error, and touches nothing", () => {
    const path = join(folder, `half-${uring}`);
    const content = pattern(2 ** 16);
    writeFileSync(path, content);
    const fd = openSync(path, constants.O_RDWR | constants.O_DIRECT);
    using device = new Disk({ uring, fd, direct: true, blockSize: 4096, sectors: 128, content });

    const { status } = device.request(OUT, 9, pattern(4096 - sector, 3), 0);

    // a host whose device has blocks of 512 bytes may well take it
    if (status === OK) content.set(pattern(4096 - sector, 3), 9 * sector);
    expect([OK, IOERR]).toContain(status);
    expect(Buffer.compare(readFileSync(path), content)).toBe(0);
    closeSync(fd);
  });
});
