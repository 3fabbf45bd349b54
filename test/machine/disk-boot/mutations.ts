/** Images with a boot set-up, changed at random: partition table, file systems, configuration, qcow2's tables. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { readBootSetup } from "../../../src/firmware/disk/boot-disk.ts";
import { checkRange, DiskError, type Medium } from "../../../src/firmware/disk/medium.ts";
import { openMedium } from "../../../src/machine/disk-boot/image-medium.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { stub, ubuntuConfig } from "../../firmware/disk/ubuntu.ts";
import { soon } from "../../processor-time.ts";
import { gptImage, run } from "./images.ts";

const KiB = 1024;

const config = ubuntuConfig({ kernels: ["1"], uuid: "none", boot: "" }).replace(
  /search --no-floppy --fs-uuid .*/g,
  "search --no-floppy --label --set=root BOOT",
);

function makeImages(
  folder: string,
): readonly { readonly bytes: Uint8Array; readonly used: number[] }[] {
  const raw = gptImage(join(folder, "raw"), [
    {
      ...{ number: 15, type: "ef00", mebibytes: 1, format: "vfat", label: "UEFI" },
      files: {
        "/EFI/ubuntu/grub.cfg": stub("none", "/grub").replace("fs_uuid none", "fs_label BOOT"),
      },
    },
    {
      ...{ number: 16, mebibytes: 1, format: "ext4", label: "BOOT" },
      files: { "/vmlinuz-1": "kernel", "/initrd.img-1": "initrd", "/grub/grub.cfg": config },
    },
  ]);
  const packed = join(folder, "packed");
  run("qemu-img", "convert", "-c", "-O", "qcow2", raw, packed);
  return [raw, packed].map((path) => {
    const bytes = new Uint8Array(readFileSync(path));
    const used: number[] = [];
    for (let at = 0; at < bytes.length; at++) if (bytes[at] !== 0) used.push(at);
    return { bytes, used };
  });
}

/** Runs `runs` of them; each ends in a boot set-up or in a DiskError, soon. */
export function mutate(runs: number): void {
  const folder = mkdtempSync(join(tmpdir(), "chv-mutations-"));
  try {
    const images = makeImages(folder);
    const path = join(folder, "changed");
    const change = fc.tuple(fc.nat(), fc.nat(255), fc.boolean());
    const cut = fc.option(fc.nat(3 * KiB), { freq: 20 });
    fc.assert(
      fc.property(fc.nat(1), fc.array(change, { maxLength: 20 }), cut, (which, changes, kept) => {
        const { bytes, used } = images[which]!;
        const length = kept === null ? bytes.length : Math.min(kept * KiB, bytes.length);
        const changed = new Map<number, number>();
        for (const [place, value, flip] of changes) {
          const at = used[place % used.length]!;
          changed.set(at, flip ? bytes[at]! ^ (1 << (value & 7)) : value);
        }
        if (which === 1) writeFileSync(path, withChanges(bytes.slice(0, length), 0, changed));
        soon(() =>
          readAll((owned) =>
            which === 1
              ? openMedium({ path, backing_files: false }, owned)
              : inMemory(bytes, length, changed),
          ),
        );
      }),
      { numRuns: runs },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The same bytes, of an image from `start` on, with what is changed there. */
function withChanges(
  bytes: Uint8Array,
  start: number,
  changes: ReadonlyMap<number, number>,
): Uint8Array {
  for (const [at, value] of changes) {
    if (at >= start && at < start + bytes.length) bytes[at - start] = value;
  }
  return bytes;
}

const inMemory = (
  image: Uint8Array,
  size: number,
  changes: ReadonlyMap<number, number>,
): Medium => ({
  size,
  read(offset, length) {
    checkRange(size, offset, length);
    return withChanges(image.slice(offset, offset + length), offset, changes);
  },
});

function readAll(open: (owned: Owned) => Medium): void {
  const owned = new Owned();
  try {
    const disk = open(owned);
    const { kernel, initrds } = readBootSetup({ disk, entry: undefined });
    kernel.read();
    for (const file of initrds) file.read();
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
  } finally {
    owned.close();
  }
}
