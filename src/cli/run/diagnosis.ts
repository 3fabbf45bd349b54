/** What a boot says when it dies, in one line: patterns of kernels, initramfs and init systems. */
import { ExitCode } from "../../exit-codes.ts";
import { failure, type Verdict } from "./verdict.ts";

/** What the image has on it, for the first disk: "GPT: partition 1 (ext4 …), …"; undefined where nobody knows. */
export type Describe = () => string | undefined;
type Sign = (line: string, earlier: readonly string[], describe: Describe) => Verdict | undefined;

/** Disks as the guest's kernel lists them when it has no root: "fe00 10240000 vda", and their partitions. */
function disksOf(lines: readonly string[], describe: Describe): string {
  const names = lines.flatMap((line) => {
    const [, name] = /\b[0-9a-f]{4,6}\s+\d+ (\w+)(?: [0-9a-f-]+)?\s*$/.exec(line) ?? [];
    return name === undefined ? [] : [name];
  });
  const seen = lines.flatMap((line) => [...line.matchAll(/\b(vd[a-z]+): ((?:vd\w+ ?)+|\[)/g)]);
  const found = [...new Set([...names, ...seen.map(([, disk]) => disk!)])];
  if (found.length === 0) return noDisk;
  const image = found.includes(imageDisk) ? describe() : undefined;
  if (image === undefined) return `disks are ${found.join(", ")}`;
  const others = found.filter((name) => !new RegExp(`^${imageDisk}\\d*$`).test(name));
  return `disks are ${[`${imageDisk} (${image})`, ...others].join(", ")}`;
}

const noDisk = "the kernel found no disk";
/** The image is the first. */
const imageDisk = "vda";
/** How an initramfs says that the root is not there: initramfs-tools, dracut, mkinitcpio. */
const missingRoots = [
  /ALERT!\s+(\S+) does not exist/,
  /dracut-initqueue.*Warning: (\S+) does not exist/,
  /ERROR: device '([^']+)' not found/,
];
/** How an init system says that it goes no further. */
const stops =
  /You are in (?:emergency|rescue) mode|Entering emergency mode|systemd\[1\]: Freezing execution/;

const signs: readonly Sign[] = [
  (line, earlier, describe) => {
    const [, what] = /Kernel panic - not syncing: (.*)/i.exec(line) ?? [];
    if (what === undefined) return undefined;
    const panic = line.slice(line.indexOf("Kernel panic"));
    const message = /Unable to mount root fs|No working init/i.test(what)
      ? rootMessage(what, earlier, describe)
      : `panic: ${what}`;
    return failure(ExitCode.guestPanic, message, { panic });
  },
  (line, earlier, describe) => {
    const root = missingRoots.map((pattern) => pattern.exec(line)?.[1]).find(Boolean);
    if (root === undefined) return undefined;
    const message = `root device ${root} not found; ${disksOf(earlier, describe)}`;
    return failure(ExitCode.bootFailed, message);
  },
  (line) =>
    stops.test(line)
      ? failure(ExitCode.bootFailed, `the guest stopped in its emergency mode: ${line}`)
      : undefined,
];

function rootMessage(what: string, earlier: readonly string[], describe: Describe): string {
  const root = earlier.findLast((line) => /Cannot open root device|unknown-block/.test(line));
  const [, device] = /Cannot open root device "?([^" ]+)"?/.exec(root ?? "") ?? [];
  const disks = disksOf(earlier, describe);
  const none = disks === noDisk;
  const initramfs = earlier.some((line) => /Unpacking initramfs|Freeing initrd memory/.test(line));
  if (/No working init/i.test(what)) return `the root file system has no init: ${what}`;
  if (none && !initramfs) {
    return `kernel has no virtio_blk and no initramfs: ${what}`;
  }
  return `root device ${device ?? "?"} not found; ${disks}`;
}

/** What a line means for a boot that is not over; undefined when it means nothing. */
export function diagnose(
  line: string,
  earlier: readonly string[],
  describe: Describe = () => undefined,
): Verdict | undefined {
  for (const sign of signs) {
    const verdict = sign(line, earlier, describe);
    if (verdict) return verdict;
  }
  return undefined;
}
