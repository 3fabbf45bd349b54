/** Chores of a test: the real ring, whose chores are done when the test says so, or at once. */
import { ChoreClient, ChoreQueue, choreRingBytes } from "../../../src/devices/chores/chore-ring.ts";
import { perform } from "../../../src/devices/chores/perform.ts";
import { createEventfd } from "../../../src/ffi/eventfd.ts";
import { close } from "../../../src/ffi/file.ts";

export class FakeChores extends ChoreClient {
  readonly queue: ChoreQueue;
  /** How often the thread was to be started. */
  starts = 0;
  /** The kinds of what was done. */
  readonly served: number[] = [];
  /** Errors to answer instead of doing the chore, in order; undefined does it. */
  readonly script: (number | undefined)[] = [];

  constructor(
    /** Chores end as they are posted; else when `serve` is called. */
    readonly atOnce = true,
    spec = { buffer: new SharedArrayBuffer(choreRingBytes), fd: createEventfd() },
  ) {
    super(spec, () => {
      this.starts++;
    });
    this.queue = new ChoreQueue(spec);
  }

  override sync(tag: number, fd: number): boolean {
    return super.sync(tag, fd) && this.posted();
  }
  override allocate(tag: number, fd: number, mode: number, offset: number, length: number) {
    return super.allocate(tag, fd, mode, offset, length) && this.posted();
  }

  /** Does up to `most` chores. */
  serve(most = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < most && this.queue.waiting; i++) {
      this.served.push(this.queue.kind);
      this.queue.finish(this.script.shift() ?? perform(this.queue));
    }
  }

  close(): void {
    close(this.fd);
  }

  private posted(): true {
    if (this.atOnce) this.serve();
    return true;
  }
}
