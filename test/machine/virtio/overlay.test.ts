/** Overlays as `chv run` makes them. */
import { afterAll, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { overlayImage } from "../../../src/devices/images/qcow2/create.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDisk } from "../../../src/machine/virtio/disks.ts";
import { openOverlay } from "../../../src/machine/virtio/overlay.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-overlay-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const image = join(folder, "image");
const keep = join(folder, "kept");
beforeEach(() => {
  writeFileSync(image, Buffer.alloc(100_000, 7));
  rmSync(keep, { force: true });
});
const options = { tmpdir: folder };

const why = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.message.replaceAll(folder, "");
    throw error;
  }
  return "";
};

test("it is a disk of the image's size in whole sectors, and no file has a name", () => {
  const overlay = openOverlay("IMAGE", image, options);
  const owned = new Owned();
  const { backend } = openDisk(overlay.disk, 0, owned);
  if (backend.kind !== "block") throw new Error(backend.kind);
  const { sectors, readonly, qcow2 } = backend.spec;
  owned.close();
  overlay.close(false);

  expect({ sectors, readonly, layers: qcow2?.layers.length }).toEqual({
    ...{ sectors: 196, readonly: false, layers: 2 },
  });
  expect(readdirSync(folder)).toEqual(["image"]);
});

test("it grows", () => {
  const overlay = openOverlay("IMAGE", image, { ...options, bytes: 20 * 2 ** 30 });
  overlay.close(false);

  expect(overlay.bytes).toBe(20 * 2 ** 30);
  expect(why(() => openOverlay("IMAGE", image, { ...options, bytes: 512 }))).toBe(
    "--disk-size 512: less than the 100352 bytes of /image; a disk can only grow",
  );
});

test("one that is kept stays, unless it was never used", () => {
  openOverlay("IMAGE", image, { ...options, keep }).close(true);
  expect(existsSync(keep)).toBe(false);

  openOverlay("IMAGE", image, { ...options, keep }).close(false);
  expect(readFileSync(keep).toString("latin1", 0, 4)).toBe("QFI\xfb");
  expect(why(() => openOverlay("IMAGE", image, { ...options, keep }))).toMatch(
    /^--keep \/kept: .*; name one that is not there$/,
  );
});

test("what is no image is refused by name", () => {
  expect(why(() => openOverlay("IMAGE", "/nowhere", options))).toMatch(
    /^IMAGE \/nowhere: .*; name an image/,
  );
  expect(why(() => openOverlay("IMAGE", folder, options))).toMatch(
    /^IMAGE : no file; name an image/,
  );
  writeFileSync(image, "KDMV".padEnd(4096, "\0"));
  expect(why(() => openOverlay("IMAGE", image, options))).toMatch(
    /^IMAGE \/image: a VMDK image; convert/,
  );
  writeFileSync(image, "QFI\xfb\0\0\0\x03".padEnd(4096, "\0"), "latin1");
  expect(why(() => openOverlay("IMAGE", image, options))).toMatch(
    /^IMAGE \/image: a broken qcow2 image/,
  );
  writeFileSync(image, "");
  expect(why(() => openOverlay("IMAGE", image, options))).toMatch(/smaller than one sector/);
});

test("an image that names another file needs leave to", () => {
  const over = join(folder, "over.qcow2");
  const path = image;
  writeFileSync(over, overlayImage({ bytes: 100_352, backing: { path, format: "raw" } }));

  expect(why(() => openOverlay("IMAGE", over, options))).toBe(
    "IMAGE /over.qcow2: it has a backing file; allow that with --backing-files",
  );
  openOverlay("IMAGE", over, { ...options, backing: true }).close(false);
  rmSync(over);
});

test("a folder that is none is named", () => {
  expect(why(() => openOverlay("IMAGE", image, { tmpdir: "/nowhere" }))).toMatch(
    /^--tmpdir \/nowhere: /,
  );
});
