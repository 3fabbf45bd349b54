/**
 * This process's own memory by way of the kernel (process_vm_readv(2), process_vm_writev(2)): where a page has nothing
 * behind it, as in the mapping of a file that was cut short, an access by the processor would be a SIGBUS; here it is a
 * refusal.
 */
import { Block } from "./block.ts";
import { iovecBytes, iovecWords, putIovec } from "./iovec.ts";
import { libc } from "./libc.ts";

const SYS_process_vm_readv = 310;
const SYS_process_vm_writev = 311;
const mostBytes = 8;

const iovecs = new Block(2 * iovecBytes);
const words = new Uint32Array(iovecs.buffer);
const bounce = new Block(mostBytes);

/** What `peek` read, and what `poke` writes: 8 bytes. */
export const peeked: DataView = bounce.view;

/** Reads `length` bytes (at most 8) at a host address into `peeked`; false when they are not all there. */
export const peek = (address: number, length: number): boolean =>
  transfer(SYS_process_vm_readv, address, length);

/** Writes the first `length` bytes of `peeked` to a host address; false when there is no room. */
export const poke = (address: number, length: number): boolean =>
  transfer(SYS_process_vm_writev, address, length);

/** Copies `length` bytes from a host address to where `count` iovecs say, as far as memory is there. */
export function scatter(from: number, length: number, to: number, count: number): void {
  putIovec(words, 0, from, length);
  libc.syscall(SYS_process_vm_writev, libc.getpid(), iovecs.address, 1, to, count, 0);
}

function transfer(call: number, address: number, length: number): boolean {
  putIovec(words, 0, bounce.address, length);
  putIovec(words, iovecWords, address, length);
  const [local, remote] = [iovecs.address, iovecs.address + iovecBytes];
  return Number(libc.syscall(call, libc.getpid(), local, 1, remote, 1, 0)) === length;
}
