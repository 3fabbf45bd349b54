/**
 * A process whose worker runs on the same processor as its main thread, until `moveOthersAway`: on the first of its
 * arguments, and both threads may use the second too, if there is one. Prints the worker's processor before and after,
 * and which the worker may use in the end.
 */
import { readFileSync } from "node:fs";
import { Block } from "../../src/ffi/block.ts";
import { libc } from "../../src/ffi/libc.ts";
import { moveOthersAway } from "../../src/ffi/placement.ts";
import { threadId } from "../../src/ffi/signals.ts";

const [SYS_sched_setaffinity, SYS_getcpu] = [203, 309]; // asm/unistd_64.h

declare const self: Worker;
/** The thread, its processor, and how often it has looked. */
type Word = 0 | 1 | 2;

if (Bun.isMainThread) {
  const words = new Int32Array(new SharedArrayBuffer(12));
  const worker = new Worker(import.meta.url);
  worker.postMessage(words);
  const read = (word: Word) => Atomics.load(words, word);
  const looksAnew = () => {
    const before = read(2);
    while (read(2) - before < 2) Bun.sleepSync(1); // the one that had begun, and one more
    return read(1);
  };
  const mask = new Block(1024);
  const allow = (thread: number, ...processors: readonly number[]) => {
    mask.bytes.fill(0);
    for (const one of processors) mask.bytes[one >> 3]! |= 1 << (one & 7);
    libc.syscall(SYS_sched_setaffinity, thread, mask.bytes.length, mask.address, 0, 0, 0);
  };
  while (read(0) === 0) await Bun.sleep(1);
  const [first, second = first] = process.argv.slice(2).map(Number) as [number, number?];
  allow(0, first);
  allow(read(0), first);
  const shared = looksAnew();
  allow(read(0), first, second);
  moveOthersAway();
  const moved = looksAnew();
  allow(0, first, second);
  const status = readFileSync(`/proc/self/task/${read(0)}/status`, "utf8");
  const allowed = /^Cpus_allowed_list:\s*(.*)$/m.exec(status)![1]!;
  console.log(JSON.stringify({ shared, moved, allowed }));
  process.exit(0);
} else {
  self.onmessage = ({ data: words }: MessageEvent<Int32Array>) => {
    Atomics.store(words, 0, threadId());
    const cpu = new Block(4);
    for (;;) {
      libc.syscall(SYS_getcpu, cpu.address, 0, 0, 0, 0, 0);
      Atomics.store(words, 1, cpu.view.getUint32(0, true));
      Atomics.add(words, 2, 1);
    }
  };
}
