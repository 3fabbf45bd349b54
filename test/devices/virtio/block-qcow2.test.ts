/** The block device on a qcow2 image: requests reach it, and a cluster that is unpacked elsewhere wakes the device. */
import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, rmSync, writeFileSync } from "node:fs";
import { openQcow2 } from "../../../src/devices/images/qcow2/open.ts";
import { makeImage, numbered, qemuImg, testFolder } from "../images/qcow2-scenarios.ts";
import { Disk } from "./disk.ts";

const [IN, OUT, FLUSH, DISCARD, WRITE_ZEROES] = [0, 1, 4, 11, 13];
const OK = 0;
const none = new Uint8Array(0);
const size = 2 ** 18;

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));

function open(path: string) {
  const fds = [openSync(path, "r+")];
  const own = (fd: number) => void fds.push(fd);
  const options = { readonly: false, direct: false, backing: true, punch: true, own };
  const qcow2 = openQcow2(fds[0]!, path, options);
  const close = () => {
    for (const fd of fds) closeSync(fd);
  };
  return { qcow2, close };
}

function range(from: number, count: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(from), true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

describe.each([
  ["io_uring", true],
  ["calls", false],
])("by %s", (_, uring) => {
  test("requests of every type do to the image what they say", () => {
    const scenario = { name: "image", options: "cluster_size=4k", size, filled: true };
    const { path, content } = makeImage(folder, scenario);
    const { qcow2, close } = open(path);
    const sectors = size / 512;
    {
      using disk = new Disk({ qcow2, sectors, uring, discardBlockSize: 4096 });
      const data = numbered(3 * 512, 5);
      expect(disk.request(OUT, 7, data, 0).status).toBe(OK);
      content.set(data, 7 * 512);
      expect(disk.request(DISCARD, 0, range(64, 8), 0).status).toBe(OK);
      content.fill(0, 64 * 512, 72 * 512);
      expect(disk.request(WRITE_ZEROES, 0, range(80, 20, 1), 0).status).toBe(OK);
      content.fill(0, 80 * 512, 100 * 512);
      expect(disk.request(FLUSH, 0, none, 0).status).toBe(OK);
      for (const sector of [0, 5, 64, 79, 96]) {
        const found = disk.request(IN, sector, none, 4 * 512).data;
        expect(found).toEqual(content.subarray(sector * 512, (sector + 4) * 512));
      }
      disk.writeback = false;
      expect(disk.request(OUT, 66, data, 0).status).toBe(OK);
      content.set(data, 66 * 512);
      expect(disk.warnings).toEqual([]);
    }
    close();

    writeFileSync(`${folder}/expected`, content);
    qemuImg(folder, "compare", "-f", "raw", "-F", "qcow2", "expected", "image.qcow2");
    expect(qemuImg(folder, "check", "image.qcow2")).toContain("No errors were found");
  });

  test("a compressed cluster holds up nobody else", () => {
    const options = "cluster_size=4k";
    const packed = { name: "packed", options, size, filled: true, compressed: true };
    const { path, content } = makeImage(folder, packed);
    const { qcow2, close } = open(path);
    {
      using disk = new Disk({ qcow2, sectors: size / 512, uring });
      expect(disk.request(OUT, 8, numbered(4096, 9), 0).status).toBe(OK);
      const first = disk.send(IN, 17, none, 512, {}, 0x2_0000);
      disk.backend.kicked(0);
      const [doer] = disk.doers;
      while (!doer!.queue.waiting) disk.pump();

      const second = disk.send(IN, 8, none, 512, {}, 0x3_0000);
      disk.backend.kicked(0);
      expect(second().data).toEqual(numbered(512, 9));
      doer!.serve();
      expect(first().data).toEqual(content.subarray(17 * 512, 18 * 512));
      // whatever was told is taken: the worker sleeps
      expect(disk.pump(0)).toBe(0);
    }
    close();
  });

  test("a stopped device has nothing in flight, and what was flushed is there", () => {
    const scenario = { name: "stopped", options: "cluster_size=64k", size };
    const { qcow2, close } = open(makeImage(folder, scenario).path);
    {
      using disk = new Disk({ qcow2, sectors: size / 512, uring });
      disk.send(OUT, 3, numbered(512, 3), 0, {}, 0x2_0000);
      const flush = disk.send(FLUSH, 0, none, 0, {}, 0x3_0000);
      disk.backend.kicked(0);
      let quiet = false;
      quiet = disk.backend.stop(() => {
        quiet = true;
      });
      while (!quiet) disk.pump();
      expect(flush().status).toBe(OK);
    }
    close();
    expect(qemuImg(folder, "check", "stopped.qcow2")).toContain("No errors were found");
  });
});
