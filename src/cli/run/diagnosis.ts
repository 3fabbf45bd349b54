/** What a boot says when it dies, in one line: patterns of kernels, initramfs and init systems. */
import { ExitCode } from "../../exit-codes.ts";
import { failure, type Verdict } from "./verdict.ts";

type Sign = (line: string, earlier: readonly string[]) => Verdict | undefined;

/** Disks as the guest's kernel lists them when it has no root: "fe00 10240000 vda", and their partitions. */
function disksOf(lines: readonly string[]): string {
  const names = lines.flatMap((line) => {
    const [, name] = /\b[0-9a-f]{4,6}\s+\d+ (\w+)(?: [0-9a-f-]+)?\s*$/.exec(line) ?? [];
    return name === undefined ? [] : [name];
  });
  const seen = lines.flatMap((line) => [...line.matchAll(/\b(vd[a-z]+): ((?:vd\w+ ?)+|\[)/g)]);
  const found = [...new Set([...names, ...seen.map(([, disk]) => disk!)])];
  return found.length === 0 ? "the kernel found no disk" : `disks are ${found.join(", ")}`;
}

const signs: readonly Sign[] = [
  (line, earlier) => {
    const [, what] = /Kernel panic - not syncing: (.*)/i.exec(line) ?? [];
    if (what === undefined) return undefined;
    const panic = line.slice(line.indexOf("Kernel panic"));
    const message = /Unable to mount root fs|No working init/i.test(what)
      ? rootMessage(what, earlier)
      : `panic: ${what}`;
    return failure(ExitCode.guestPanic, message, { panic });
  },
  (line, earlier) => {
    const [, root] = /ALERT!\s+(\S+) does not exist/.exec(line) ?? [];
    if (root === undefined) return undefined;
    return failure(ExitCode.bootFailed, `root device ${root} not found; ${disksOf(earlier)}`);
  },
  (line, earlier) => {
    const [, path] = /dracut-initqueue.*Warning: (\S+) does not exist/.exec(line) ?? [];
    if (path === undefined) return undefined;
    return failure(ExitCode.bootFailed, `root device ${path} not found; ${disksOf(earlier)}`);
  },
  (line) =>
    /You are in (?:emergency|rescue) mode|Entering emergency mode/.test(line)
      ? failure(ExitCode.bootFailed, `the guest stopped in its emergency mode: ${line}`)
      : undefined,
];

function rootMessage(what: string, earlier: readonly string[]): string {
  const root = earlier.findLast((line) => /Cannot open root device|unknown-block/.test(line));
  const [, device] = /Cannot open root device "?([^" ]+)"?/.exec(root ?? "") ?? [];
  const disks = disksOf(earlier);
  const none = disks.startsWith("the kernel found no disk");
  const initramfs = earlier.some((line) => /Unpacking initramfs|Freeing initrd memory/.test(line));
  if (/No working init/i.test(what)) return `the root file system has no init: ${what}`;
  if (none && !initramfs) {
    return `kernel has no virtio_blk and no initramfs: ${what}`;
  }
  return `root device ${device ?? "?"} not found; ${disks}`;
}

/** What a line means for a boot that is not over; undefined when it means nothing. */
export function diagnose(line: string, earlier: readonly string[]): Verdict | undefined {
  for (const sign of signs) {
    const verdict = sign(line, earlier);
    if (verdict) return verdict;
  }
  return undefined;
}
