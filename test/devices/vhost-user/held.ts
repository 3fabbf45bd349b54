/**
 * What a server has open, told by what a descriptor is of: how many there are in the whole process says little, for the
 * runtime and its other threads open and close theirs at any time.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";

/** The open file itself: eventfds share one inode, and have numbers of their own (proc(5), since Linux 5.2). */
function identity(fd: number | string): string {
  try {
    const { dev, ino } = statSync(`/proc/self/fd/${fd}`);
    const [event = ""] =
      /eventfd-id: .*/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8")) ?? [];
    return `${dev} ${ino} ${event}`;
  } catch {
    return ""; // the listing's own, or one that has just been closed
  }
}

/** For each of these, how many descriptors of this process are of the same file, itself among them. */
export function copiesOf(...fds: readonly number[]): number[] {
  const open = readdirSync("/proc/self/fd").map(identity);
  return fds.map((fd) => {
    const wanted = identity(fd);
    return open.filter((one) => one === wanted).length;
  });
}

/** Descriptors of this process that are of a memfd of this name. */
export function memfdsNamed(name: string): number {
  const isOne = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`/memfd:${name} `);
    } catch {
      return false; // as above
    }
  };
  return readdirSync("/proc/self/fd").filter(isOne).length;
}

/** Connections to the socket at `path` that its server has accepted (a line each, and one for the socket). */
export function connectionsTo(path: string): number {
  const lines = readFileSync("/proc/net/unix", "utf8").split("\n");
  return lines.filter((line) => line.endsWith(` ${path}`)).length - 1;
}
