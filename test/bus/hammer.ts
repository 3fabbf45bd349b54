/** A worker thread that works on shared memory for a test: told what by its `workerData`, it says "done" at the end. */
import { parentPort, workerData } from "node:worker_threads";
import { ByteRing } from "../../src/bus/byte-ring.ts";
import { EventRing } from "../../src/bus/event-ring.ts";
import { Lock } from "../../src/bus/lock.ts";
import { Ask, ThreadControl, ThreadState } from "../../src/bus/thread-control.ts";

export type Task =
  /** Increments word 16, a plain load and store, under the lock in word 0. */
  | { do: "count"; buffer: SharedArrayBuffer; times: number }
  /** Takes the lock in word 0 and never gives it back. */
  | { do: "hold"; buffer: SharedArrayBuffer }
  /** Pushes 0, 1, … 255, 0, … into a byte ring, and rings in word 0 of `bell`. */
  | { do: "push"; buffer: SharedArrayBuffer; bell: SharedArrayBuffer; times: number }
  /** Emits events of kind `source`: a counts up, the text repeats it. */
  | { do: "emit"; buffer: SharedArrayBuffer; source: number; times: number; patient: boolean }
  /** Parks and runs as asked, sleeping on word 0 of `bell`; counts in word 1 the times that it ran. */
  | { do: "obey"; buffer: SharedArrayBuffer; bell: SharedArrayBuffer }
  /** Waits for thread 0's first word; word 0 of `bell` is 1 before that, word 1 the state that it then has. */
  | { do: "await"; buffer: SharedArrayBuffer; bell: SharedArrayBuffer };

const idle = new Int32Array(new SharedArrayBuffer(4));
/** Lets the other side have the processor: on a single busy one, who only looks keeps it for a whole slice of time. */
const giveWay = () => Atomics.wait(idle, 0, 0, 0.01);

const task = workerData as Task;
switch (task.do) {
  case "count": {
    const words = new Int32Array(task.buffer);
    const lock = new Lock(words, 0);
    for (let i = 0; i < task.times; i++) {
      lock.acquire();
      words[16] = words[16]! + 1;
      lock.release();
    }
    break;
  }
  case "hold":
    new Lock(new Int32Array(task.buffer), 0).acquire();
    break;
  case "push": {
    const bell = new Int32Array(task.bell);
    const ring = new ByteRing(task.buffer, () => {
      Atomics.add(bell, 0, 1);
      Atomics.notify(bell, 0);
    });
    for (let i = 0; i < task.times; ) {
      if (ring.push(i & 0xff)) i++;
      else giveWay();
    }
    break;
  }
  case "emit": {
    const ring = new EventRing(task.buffer, task.source);
    const read = new Int32Array(task.buffer, 0, 16);
    for (let i = 0; i < task.times; i++) {
      // words 1 and 2: written and read
      const full = () => ((Atomics.load(read, 1) - Atomics.load(read, 2)) | 0) >= 1000;
      while (task.patient && full()) giveWay();
      ring.emit(task.source, i, -i, `event ${i}`);
    }
    break;
  }
  case "obey":
    obey(new ThreadControl(task.buffer, 0), new Int32Array(task.bell));
    break;
  case "await": {
    const first = new ThreadControl(task.buffer, 0);
    const bell = new Int32Array(task.bell);
    Atomics.store(bell, 0, 1);
    Atomics.notify(bell, 0);
    first.awaitStart();
    Atomics.store(bell, 1, first.state);
    break;
  }
}
parentPort!.postMessage("done");

function obey(control: ThreadControl, bell: Int32Array): void {
  control.threadId = 1;
  for (;;) {
    const rung = Atomics.load(bell, 0);
    const asked = control.asked;
    if (asked === Ask.leave) break;
    if (asked === Ask.run) {
      control.say(ThreadState.running);
      Atomics.store(bell, 2, 1); // inside
      Atomics.add(bell, 1, 1);
      while (control.asked === Ask.run) giveWay();
      Atomics.store(bell, 2, 0);
    } else {
      control.say(ThreadState.parked);
      Atomics.wait(bell, 0, rung);
    }
  }
  control.say(ThreadState.gone);
}
