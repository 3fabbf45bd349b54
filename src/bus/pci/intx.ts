/** INTx: level-triggered pins that several functions share. A pin is asserted as long as one of them asserts it. */
import type { InterruptLine } from "../device.ts";
import type { DeviceLock } from "../mapping.ts";

/** One shared pin: who asserts it is a bit each of a word in shared memory. */
export class SharedPin {
  constructor(
    readonly asserted: Int32Array<SharedArrayBuffer>,
    readonly lock: DeviceLock,
    readonly pin: InterruptLine,
  ) {}

  /** `who` is below 32. */
  set(who: number, asserted: boolean): void {
    this.lock.acquire();
    try {
      const before = this.asserted[0]!;
      const after = asserted ? before | (1 << who) : before & ~(1 << who);
      this.asserted[0] = after;
      if ((before === 0) !== (after === 0)) this.pin.set(after !== 0);
    } finally {
      this.lock.release();
    }
  }
}
