/** GRUB's part of an image: its environment block, and the configuration on the ESP that leads to /boot. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { grubenv, stub } from "../firmware/disk/ubuntu.ts";
import { bootPlace } from "./disk.ts";
import { hasBoot, ids, type Layout, rootWord } from "./layouts.ts";

export const consoles = "console=tty1 console=ttyS0";

export function writeInto(folder: string, path: string, content: string | Uint8Array): void {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}

/** `boot` and `esp` are the folders that become /boot and the ESP. */
export function writeGrub(layout: Layout, boot: string, esp: string, config: string): void {
  const { uuid, path } = bootPlace(layout);
  writeInto(boot, "grub/grub.cfg", config);
  writeInto(boot, "grub/grubenv", grubenv({}));
  writeInto(esp, "EFI/BOOT/BOOTX64.EFI", "MZ"); // a loader for firmware, of which there is none
  writeInto(esp, "EFI/ubuntu/grub.cfg", stub(uuid, `${path}/grub`));
}

/**
 * The configuration that grub-mkconfig makes of a root folder. It has not seen the disk, so it names the root by a
 * device; as in Ubuntu's images, that is changed afterwards. Throws what it said.
 */
export function mkconfig(layout: Layout, root: string, boot: string): string {
  const own = hasBoot(layout) ? [boot] : [];
  const { exitCode, stdout, stderr } = Bun.spawnSync(
    [`${import.meta.dir}/mkconfig.sh`, root, ...own],
    {
      env: {
        ...process.env,
        PROBE_ROOT_UUID: ids.rootUuid,
        PROBE_ROOT_PARTUUID: ids.rootPartUuid,
        ...(hasBoot(layout) ? { PROBE_BOOT_UUID: ids.bootUuid } : {}),
      },
    },
  );
  if (exitCode !== 0) throw new Error(`grub-mkconfig: ${stderr}`);
  const kernel = `linux\t${bootPlace(layout).path}/vmlinuz-`;
  if (!stdout.includes(kernel)) throw new Error(`grub-mkconfig: no ${kernel} in:\n${stdout}`);
  return stdout.toString().replace(/ root=\S+/g, ` root=${rootWord(layout)}`);
}
