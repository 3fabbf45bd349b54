/** What /proc says of this process: for tests that nothing is left behind. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Targets of the open descriptors. The runtime opens some for itself when it first starts a process. */
export function openFiles(): string[] {
  return readdirSync("/proc/self/fd")
    .flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return []; // the listing's own
      }
    })
    .toSorted();
}

/**
 * Descriptors that are open now and were not `before`. The runtime closes some of its own (of threads and processes that
 * have ended) a little later than one sees the end; what stays for a minute has been left.
 */
export function leftOpen(before: readonly string[]): string[] {
  for (let tries = 6000; ; tries--) {
    const known = [...before];
    const added = openFiles().filter((file) => {
      const at = known.indexOf(file);
      if (at >= 0) known.splice(at, 1);
      return at < 0;
    });
    if (added.length === 0 || tries === 0) return added;
    Bun.sleepSync(10);
  }
}

/** The lines of /proc/self/maps that hold `address`. */
export function mappingsOf(address: number, length: number): string[] {
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
      if (from === undefined) return false;
      return Number.parseInt(from, 16) < address + length && address < Number.parseInt(to!, 16);
    });
}

/** Address space of this process in KiB. */
export function virtualKiB(): number {
  return Number(/^VmSize:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]);
}

/** The VmFlags (proc(5)) of the mapping that has `address`. */
export function vmFlags(address: number): string[] {
  const range = mappingsOf(address, 1)[0]?.split(" ")[0];
  const smaps = readFileSync("/proc/self/smaps", "utf8");
  const [, flags] = new RegExp(`^${range} [^]*?^VmFlags: (.*)$`, "m").exec(smaps) ?? [];
  if (flags === undefined) throw new Error(`no mapping has ${address.toString(16)}`);
  return flags.trim().split(" ");
}
