/**
 * Loading is the first vCPU's: its thread puts tables and kernel into guest RAM, as firmware would, while main goes on
 * with the machine or answers its clients, and enters what it has loaded. Main is told how it went.
 */

import { ConfigError } from "../exit-codes.ts";
import type { BootPlan } from "./boot-plan.ts";
import type { RamContent, RamRegion } from "./ram-view.ts";

/** The first message to the first vCPU's thread, and one for each reset. */
export interface LoadOrder {
  readonly plan: Omit<BootPlan, "memory">;
  readonly ram: readonly RamRegion[];
  readonly content: RamContent;
  readonly turn: SharedArrayBuffer;
}

/** What the thread answers. */
export type LoadAnswer =
  | { readonly notes: readonly string[] }
  /** `option` is there when the user can mend it. */
  | { readonly message: string; readonly isConfigError: boolean; readonly option?: string };

/** The lines for the log. Throws what the thread has caught. */
export function notesOf(answer: LoadAnswer): readonly string[] {
  if ("notes" in answer) return answer.notes;
  if (answer.isConfigError) throw new ConfigError(answer.message, answer.option);
  throw new Error(answer.message);
}

const turns = { waiting: 0, taken: 1, over: 2 } as const;

/** Who may write to guest RAM: nobody yet, the loading thread, or the machine's owner again. */
export class LoadTurn {
  readonly #word: Int32Array<SharedArrayBuffer>;

  constructor(readonly buffer = new SharedArrayBuffer(4)) {
    this.#word = new Int32Array(buffer);
  }

  /** For the thread, before it touches RAM: false when it is too late. */
  take(): boolean {
    return Atomics.compareExchange(this.#word, 0, turns.waiting, turns.taken) === turns.waiting;
  }

  /** For the thread: it touches RAM no more. */
  end(): void {
    Atomics.store(this.#word, 0, turns.over);
    Atomics.notify(this.#word, 0);
  }

  /** For the owner, who is about to unmap RAM: nothing begins any more; waits for what has begun. */
  takeBack(): void {
    const { waiting, taken, over } = turns;
    if (Atomics.compareExchange(this.#word, 0, waiting, over) !== taken) return;
    while (Atomics.load(this.#word, 0) === taken) Atomics.wait(this.#word, 0, taken);
  }
}
