/** bzImages made by hand: one with an ELF inside, and those that must be refused. */

import { expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import { extractVmlinux } from "./vmlinux.ts";

/** One setup sector, payload at the start of the second part (Linux boot protocol 2.08). */
function bzImage(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const image = new Uint8Array(1024 + payload.byteLength);
  const view = new DataView(image.buffer);
  image[0x1f1] = 1;
  image.set(Buffer.from("HdrS"), 0x202);
  view.setUint32(0x24c, payload.byteLength, true);
  image.set(payload, 1024);
  return image;
}

const elf = Buffer.concat([Buffer.from("\x7fELF", "latin1"), Buffer.alloc(100, 7)]);

test("the payload is unpacked, the size behind it notwithstanding", async () => {
  const payload = Buffer.concat([gzipSync(elf), Buffer.from([104, 0, 0, 0])]);

  expect(Buffer.from(await extractVmlinux(bzImage(payload)))).toEqual(elf);
});

test("what is not a bzImage is refused", async () => {
  await expect(extractVmlinux(new Uint8Array(4096))).rejects.toThrow("no HdrS");
  await expect(extractVmlinux(new Uint8Array(100))).rejects.toThrow("too short");
});

test("a payload beyond the file, of no known kind, or with no ELF is refused", async () => {
  const cut = bzImage(gzipSync(elf)).slice(0, -1);

  await expect(extractVmlinux(cut)).rejects.toThrow("beyond the file");
  await expect(extractVmlinux(bzImage(Buffer.alloc(64, 1)))).rejects.toThrow("compression");
  await expect(extractVmlinux(bzImage(gzipSync(Buffer.alloc(64))))).rejects.toThrow("no ELF");
});
