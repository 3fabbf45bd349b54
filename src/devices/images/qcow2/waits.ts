/**
 * Who goes on when. A task is a request, or a part of one, and waits in one list at most; a list that is woken goes to
 * the end of the queue of those that are ready, in the order in which they came.
 */
export class Waits {
  /** By task: the errno that its wait ended with. */
  readonly errors: Int32Array;
  /** The last list is that of the tasks that are ready. */
  private readonly ready: number;
  private readonly heads: Int32Array;
  private readonly tails: Int32Array;
  private readonly nexts: Int32Array;

  constructor(tasks: number, lists: number) {
    this.ready = lists;
    this.errors = new Int32Array(tasks);
    this.heads = new Int32Array(lists + 1).fill(-1);
    this.tails = new Int32Array(lists + 1).fill(-1);
    this.nexts = new Int32Array(tasks).fill(-1);
  }

  park(list: number, task: number): void {
    this.nexts[task] = -1;
    if (this.heads[list]! < 0) this.heads[list] = task;
    else this.nexts[this.tails[list]!] = task;
    this.tails[list] = task;
  }

  makeReady(task: number): void {
    this.park(this.ready, task);
  }

  get hasReady(): boolean {
    return this.heads[this.ready]! >= 0;
  }

  isEmpty(list: number): boolean {
    return this.heads[list]! < 0;
  }

  /** All who wait in the list are ready. */
  wake(list: number, error = 0): void {
    for (let task = this.take(list); task >= 0; task = this.take(list)) {
      if (error !== 0) this.errors[task] = error;
      this.makeReady(task);
    }
  }

  /** The whole of a list waits in another from now on, behind those who are there. */
  move(from: number, to: number): void {
    for (let task = this.take(from); task >= 0; task = this.take(from)) this.park(to, task);
  }

  /** Takes the first of a list; -1 when it is empty. */
  take(list: number): number {
    const task = this.heads[list]!;
    if (task >= 0) this.heads[list] = this.nexts[task]!;
    return task;
  }

  /** Takes the next that is ready; -1 when there is none. */
  next(): number {
    return this.take(this.ready);
  }

  /** What the task's wait ended with, once: an errno, or 0. */
  takeError(task: number): number {
    const error = this.errors[task]!;
    this.errors[task] = 0;
    return error;
  }
}
