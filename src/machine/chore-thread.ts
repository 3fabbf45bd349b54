/** A thread that does one device's chores (src/devices/chores/): asked by a ring, it sleeps on its bell. */
import { EventRing } from "../bus/event-ring.ts";
import { EventKind } from "../bus/events.ts";
import { Ask, ThreadControl, ThreadState } from "../bus/thread-control.ts";
import { ChoreQueue } from "../devices/chores/chore-ring.ts";
import type { ChoreSpec } from "../devices/chores/chores.ts";
import { garbageOf, perform } from "../devices/chores/perform.ts";
import { signalEventfd } from "../ffi/eventfd.ts";
import { nameThread } from "../ffi/signals.ts";
import { compileSoon } from "../jit-policy.ts";

/** All that the thread is sent. */
export interface ChoreThreadSpec {
  readonly chores: ChoreSpec;
  /** Thread control words and the event ring, and the thread's number in both. */
  readonly control: SharedArrayBuffer;
  readonly events: SharedArrayBuffer;
  readonly number: number;
  /** As /proc shows it. */
  readonly name: string;
  /** An eventfd that is written when the thread has died, for who cannot wait for its words. */
  readonly deathFd?: number;
}

/** Unpacked clusters keep the collector from running by itself (0.16 ms): it is run after so many bytes. */
const bytesPerCollection = 2 ** 24;

/** Runs until asked to leave. Errors end in the event ring, never in an exception. */
export function runChoreThread(spec: ChoreThreadSpec): void {
  const control = new ThreadControl(spec.control, spec.number);
  try {
    nameThread(spec.name);
    compileSoon();
    serve(control, new ChoreQueue(spec.chores));
    control.say(ThreadState.gone);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    new EventRing(spec.events, spec.number).emit(EventKind.threadFailed, 0, 0, text);
    control.say(ThreadState.failed);
    if (spec.deathFd !== undefined) signalEventfd(spec.deathFd);
  }
}

/** The thread runs until it is told to leave: asked to park, it has nothing to do, since its device asks nothing. */
function serve(control: ThreadControl, queue: ChoreQueue): void {
  let garbage = 0;
  for (;;) {
    const { bell } = queue;
    if (control.asked === Ask.leave) return;
    if (!queue.waiting) {
      queue.sleep(bell);
      continue;
    }
    garbage += garbageOf(queue);
    queue.finish(perform(queue));
    if (garbage < bytesPerCollection) continue;
    Bun.gc(true);
    garbage = 0;
  }
}
