/**
 * Images of the same layouts with little in them: a kernel, an initramfs, and a root of a few files. GRUB's
 * configuration is as Ubuntu's images have it, with its functions and branches.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { ubuntuConfig } from "../firmware/disk/ubuntu.ts";
import { bootPlace, type ImageFormat, writeDisk } from "./disk.ts";
import { writeGrub, writeInto } from "./grub.ts";
import { fstabOf, hasBoot, ids, type LayoutName, layoutOf } from "./layouts.ts";

export interface SmallContent {
  /** Paths of the host. */
  readonly kernel: string;
  readonly initramfs: string;
  /** By path in the root: "etc/name". */
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  readonly format: ImageFormat;
}

/** The version that the kernel's file bears. */
export const smallVersion = "6.12.0-1-small";
/** An older kernel, which is none: only the default entry boots. */
const olderVersion = "6.12.0-0-small";

export function writeSmall(file: string, name: LayoutName, content: SmallContent): void {
  const layout = layoutOf(name);
  mkdirSync(dirname(file), { recursive: true });
  const work = mkdtempSync(`${file}.parts-`);
  try {
    const [root, esp] = [`${work}/root`, `${work}/esp`];
    const boot = hasBoot(layout) ? `${work}/boot` : `${root}/boot`;
    mkdirSync(`${root}/boot`, { recursive: true });
    for (const [path, text] of Object.entries(content.files)) writeInto(root, path, text);
    writeInto(root, "etc/fstab", fstabOf(layout));
    writeInto(boot, `vmlinuz-${smallVersion}`, readFileSync(content.kernel));
    writeInto(boot, `initrd.img-${smallVersion}`, readFileSync(content.initramfs));
    writeInto(boot, `vmlinuz-${olderVersion}`, "no kernel\n");
    writeInto(boot, `initrd.img-${olderVersion}`, "no initramfs\n");
    mkdirSync(`${boot}/efi`);
    const { uuid, path } = bootPlace(layout);
    const config = ubuntuConfig({
      ...{ kernels: [smallVersion, olderVersion], uuid, boot: path },
      ...(layout.rootBy === "PARTUUID" ? { partUuid: ids.rootPartUuid } : {}),
    });
    writeGrub(layout, boot, esp, config);
    writeDisk(file, layout, { root, boot, esp }, content.format);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
