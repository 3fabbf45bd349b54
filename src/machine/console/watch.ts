/**
 * Looks at the consoles of a machine from the main thread, as long as it lives: keeps what they say for the API, and
 * notices a login prompt. How often it looks follows how much they say.
 */

import { ConsoleLog } from "./log.ts";
import type { ConsoleSpec } from "./spec.ts";

const busyMs = 10;
const idleMs = 100;
/** After so many looks in vain it looks less often. */
const patience = 200;

/** What getty writes, on a line of its own, and waits behind: "NAME login: ". */
const loginPrompt = /(?:^|[^\w.-])[\w.-]+ login: ?$/;

export class ConsoleWatch {
  readonly logs: readonly ConsoleLog[];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #vain = 0;
  readonly #leave: (() => void)[] = [];

  constructor(
    consoles: readonly ConsoleSpec[],
    /** A console shows a login prompt: once for each. */
    readonly loginSeen: (console: string) => void,
  ) {
    this.logs = consoles.map((spec) => new ConsoleLog(spec));
    this.beginLife();
    this.#wait(busyMs);
  }

  /** The guest starts over, and may ask for a login again. */
  beginLife(): void {
    for (const leave of this.#leave.splice(0)) leave();
    for (const log of this.logs) {
      log.beginLife();
      const leave = log.followLines((line) => {
        if (!loginPrompt.test(line)) return;
        leave();
        this.loginSeen(log.name);
      });
      this.#leave.push(leave);
    }
  }

  #wait(ms: number): void {
    this.#timer = setTimeout(() => {
      this.poll();
      this.#wait(this.#vain > patience ? idleMs : busyMs);
    }, ms);
    this.#timer.unref();
  }

  /** Takes what the consoles have said since the last time. */
  poll(): void {
    let some = false;
    for (const log of this.logs) if (log.poll()) some = true;
    this.#vain = some ? 0 : this.#vain + 1;
  }

  /** The machine has ended: what it said last is taken. */
  close(): void {
    clearTimeout(this.#timer);
    this.poll();
  }
}
