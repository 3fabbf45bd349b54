/** eventfd(2): a counter that one side adds to and the other waits on. */
import { Block } from "./block.ts";
import { readLink } from "./file.ts";
import { check, libc } from "./libc.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

export function createEventfd(): number {
  return check(libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
}

const one = new Block(8);
one.view.setBigUint64(0, 1n, true);
const count = new Block(8);

/** Adds one: whoever waits on it wakes. */
export function signalEventfd(fd: number): void {
  libc.write(fd, one.address as never, 8);
}

/** Whether a descriptor of somebody else's is an eventfd: to write it waits for nobody, but 2^64 - 2 writes later. */
export function isEventfd(fd: number): boolean {
  return readLink(`/proc/self/fd/${fd}`) === "anon_inode:[eventfd]";
}

/** Takes the count back to zero. True when it was not. */
export function drainEventfd(fd: number): boolean {
  return Number(libc.read(fd, count.address as never, 8)) === 8;
}
