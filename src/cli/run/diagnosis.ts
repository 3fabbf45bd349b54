/** What a boot says when it dies, in one line: patterns of kernels, initramfs and init systems. */
import { ExitCode } from "../../exit-codes.ts";
import { failure, type Verdict } from "./verdict.ts";

/** What the image has on it, for the first disk: "GPT: partition 1 (ext4 …), …"; undefined where nobody knows. */
export type Describe = () => string | undefined;
/** What chv knows of a boot without the guest's help. */
export interface BootFacts {
  readonly describe?: Describe | undefined;
  readonly cmdline?: string | undefined;
  /** There is one; undefined where that is not known. */
  readonly initramfs?: boolean | undefined;
}
type Sign = (line: string, earlier: readonly string[], facts: BootFacts) => Verdict | undefined;

/** Lines that a later diagnosis needs, however much is said in between. */
const telling = /\bvd[a-z]+: |Cannot open root device|Unpacking initramfs|Freeing initrd memory/;
export const isTelling = (line: string): boolean => telling.test(line);

/** Disks as the guest's kernel lists them when it has no root: "fe00 10240000 vda", and their partitions. */
function disksOf(lines: readonly string[], { describe, cmdline }: BootFacts): string {
  const names = lines.flatMap((line) => {
    const [, name] = /\b[0-9a-f]{4,6}\s+\d+ (\w+)(?: [0-9a-f-]+)?\s*$/.exec(line) ?? [];
    return name === undefined ? [] : [name];
  });
  const seen = lines.flatMap((line) => [...line.matchAll(/\b(vd[a-z]+): ((?:vd\w+ ?)+|\[)/g)]);
  const found = [...new Set([...names, ...seen.map(([, disk]) => disk!)])];
  const isQuiet = /(?:^|\s)quiet(?:\s|$)/.test(cmdline ?? "");
  if (found.length === 0) return isQuiet ? hiddenDisks : noDisk;
  const image = found.includes(imageDisk) ? describe?.() : undefined;
  if (image === undefined) return `disks are ${found.join(", ")}`;
  const others = found.filter((name) => !new RegExp(`^${imageDisk}\\d*$`).test(name));
  return `disks are ${[`${imageDisk} (${image})`, ...others].join(", ")}`;
}

const noDisk = "the kernel found no disk";
const hiddenDisks = 'which disks it found "quiet" on the command line hides';
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
  (line, earlier, facts) => {
    const [, what] = /Kernel panic - not syncing: (.*)/i.exec(line) ?? [];
    if (what === undefined) return undefined;
    const panic = line.slice(line.indexOf("Kernel panic"));
    const message = /Unable to mount root fs|No working init/i.test(what)
      ? rootMessage(what, earlier, facts)
      : `panic: ${what}`;
    return failure(ExitCode.guestPanic, message, { panic });
  },
  (line, earlier, facts) => {
    const root = missingRoots.map((pattern) => pattern.exec(line)?.[1]).find(Boolean);
    if (root === undefined) return undefined;
    const message = `root device ${root} not found; ${disksOf(earlier, facts)}`;
    return failure(ExitCode.bootFailed, message);
  },
  (line) =>
    stops.test(line)
      ? failure(ExitCode.bootFailed, `the guest stopped in its emergency mode: ${line}`)
      : undefined,
];

function rootMessage(what: string, earlier: readonly string[], facts: BootFacts): string {
  if (/No working init/i.test(what)) return `the root file system has no init: ${what}`;
  const root = earlier.findLast((line) => /Cannot open root device/.test(line));
  const [, said] = /Cannot open root device "?([^" ]+)"?/.exec(root ?? "") ?? [];
  const asked = [...(facts.cmdline ?? "").matchAll(/(?:^|\s)root=(\S+)/g)].at(-1)?.[1];
  const disks = disksOf(earlier, facts);
  const initramfs =
    facts.initramfs ?? earlier.some((line) => /Unpacking initramfs|Freeing initrd/.test(line));
  if (disks === noDisk && !initramfs) {
    return `kernel has no virtio_blk and no initramfs: ${what}`;
  }
  return `root device ${said ?? asked ?? "?"} not found; ${disks}`;
}

/** What a line means for a boot that is not over; undefined when it means nothing. */
export function diagnose(
  line: string,
  earlier: readonly string[],
  facts: BootFacts = {},
): Verdict | undefined {
  for (const sign of signs) {
    const verdict = sign(line, earlier, facts);
    if (verdict) return verdict;
  }
  return undefined;
}
