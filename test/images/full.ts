/**
 * A whole cloud image of a layout: `bun test/images/full.ts LAYOUT ROOT OUT`. ROOT is a folder with a Debian system that
 * has a kernel, cloud-init and GRUB's scripts; it is changed. OUT is a qcow2, compressed as Ubuntu's are.
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { writeDisk } from "./disk.ts";
import { consoles, mkconfig, writeGrub, writeInto } from "./grub.ts";
import { fstabOf, hasBoot, type LayoutName, layoutNames, layoutOf } from "./layouts.ts";

const [name, root, out] = process.argv.slice(2);
if (!root || !out || !layoutNames.includes(name as LayoutName)) {
  throw new Error(`full.ts LAYOUT ROOT OUT; layouts are ${layoutNames.join(", ")}`);
}
const layout = layoutOf(name as LayoutName);
const work = mkdtempSync(`${out}.parts-`);
try {
  const esp = `${work}/esp`;
  let boot = `${root}/boot`;
  writeInto(root, "etc/fstab", fstabOf(layout));
  // beside Ubuntu's: an emulated machine that is busy needs more than 90 s for a disk or a service
  const patience = "[Manager]\nDefaultDeviceTimeoutSec=15min\nDefaultTimeoutStartSec=15min\n";
  writeInto(root, "etc/systemd/system.conf.d/50-emulated.conf", patience);
  writeInto(
    root,
    "etc/default/grub.d/50-cloudimg-settings.cfg",
    `GRUB_DISTRIBUTOR=Debian\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT="${consoles}"\nGRUB_TERMINAL=console\n`,
  );
  if (hasBoot(layout)) {
    boot = `${work}/boot`;
    renameSync(`${root}/boot`, boot);
    mkdirSync(`${root}/boot`);
  }
  mkdirSync(`${boot}/efi`, { recursive: true });
  writeGrub(layout, boot, esp, mkconfig(layout, root, boot));
  writeDisk(out, layout, { root, boot, esp }, "zlib");
} finally {
  rmSync(work, { recursive: true, force: true });
}
