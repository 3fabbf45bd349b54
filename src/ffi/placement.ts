/**
 * Which processor a thread is on. The scheduler may leave a new thread on its creator's processor, where it waits its
 * turn while another is idle: measured on 2 processors, 34 starts of 40, each 3.6 ms later than the others.
 *
 * A function of libc of its own, with nothing else linked: this is called before the rest is loaded.
 */
import { dlopen, FFIType } from "bun:ffi";
import { Block } from "./block.ts";

const { symbols } = dlopen("libc.so.6", {
  syscall: { args: ["i64", "u64", "u64", "u64"], returns: FFIType.i64_fast },
});
const call = (number: number, one: number, two: number, three: number): number =>
  Number(symbols.syscall(number, one, two, three));

// asm/unistd_64.h
const SYS_open = 2;
const SYS_close = 3;
const SYS_sched_setaffinity = 203;
const SYS_sched_getaffinity = 204;
const SYS_getdents64 = 217;
const SYS_getcpu = 309;
const directoryCloexec = 0o2200000;
/** As many processors as Linux can have (CONFIG_NR_CPUS is at most 8192). */
const maskBytes = 8192 / 8;

/** Moves this process's other threads off the caller's processor, where another one is theirs too. */
export function moveOthersAway(): void {
  const [cpu, nothing] = [new Block(4), new Block(maskBytes)];
  const [before, mask] = [new Block(maskBytes), new Block(maskBytes)];
  if (call(SYS_getcpu, cpu.address, 0, 0) !== 0) return;
  const own = cpu.view.getUint32(0, true);
  for (const thread of otherThreads()) {
    const length = call(SYS_sched_getaffinity, thread, maskBytes, before.address);
    if (length <= 0) continue; // it has ended
    mask.bytes.set(before.bytes);
    mask.bytes[own >> 3]! &= ~(1 << (own & 7));
    if (!differ(mask, nothing, length)) continue;
    call(SYS_sched_setaffinity, thread, length, mask.address); // off it goes, and stays there
    // As it was: all that its cpuset has, also when that changes, unless somebody had chosen.
    mask.bytes.fill(0xff);
    call(SYS_sched_setaffinity, thread, maskBytes, mask.address);
    call(SYS_sched_getaffinity, thread, maskBytes, mask.address);
    if (differ(mask, before, length)) call(SYS_sched_setaffinity, thread, length, before.address);
  }
}

/** A loop: the runtime's own functions for this are compiled at their first use. */
function differ(one: Block, other: Block, length: number): boolean {
  for (let i = 0; i < length; i++) if (one.bytes[i] !== other.bytes[i]) return true;
  return false;
}

/** Their ids, by /proc/self/task; of very many, the first. None where /proc has other numbers than this process. */
function otherThreads(): number[] {
  const path = new Block(32);
  new TextEncoder().encodeInto("/proc/self/task", path.bytes);
  const folder = call(SYS_open, path.address, directoryCloexec, 0);
  if (folder < 0) return [];
  const entries = new Block(1024);
  const end = call(SYS_getdents64, folder, entries.address, entries.bytes.length);
  call(SYS_close, folder, 0, 0);
  const threads: number[] = [];
  let isOurs = false;
  // struct linux_dirent64 (getdents(2)): length of the record at 16, the name at 19
  for (let at = 0; at < end; at += entries.view.getUint16(at + 16, true)) {
    let id = 0;
    for (let i = at + 19; entries.bytes[i]! >= 0x30; i++) id = id * 10 + entries.bytes[i]! - 0x30;
    if (id === process.pid) isOurs = true;
    else if (id > 0) threads.push(id);
  }
  return isOurs ? threads : [];
}
