/**
 * A process whose worker runs on the same processor as its main thread, until `moveOthersAway`. Prints the worker's
 * processor before and after, and which the threads may use in the end.
 */
import { readdirSync, readFileSync } from "node:fs";
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
  const allowed = new Block(8);
  const allow = (thread: number, mask: number) => {
    allowed.view.setUint32(0, mask, true);
    libc.syscall(SYS_sched_setaffinity, thread, 8, allowed.address, 0, 0, 0);
  };
  while (read(0) === 0) await Bun.sleep(1);
  allow(0, 0b01);
  allow(read(0), 0b01);
  const shared = looksAnew();
  allow(read(0), 0b11);
  moveOthersAway();
  const moved = looksAnew();
  allow(0, 0b11);
  const status = (id: string) => readFileSync(`/proc/self/task/${id}/status`, "utf8");
  const lists = readdirSync("/proc/self/task").map(
    (id) => /^Cpus_allowed_list:\s*(.*)$/m.exec(status(id))![1]!,
  );
  console.log(JSON.stringify({ shared, moved, allowed: [...new Set(lists)] }));
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
