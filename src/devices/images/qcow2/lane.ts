/**
 * The lane: all changes of an image's tables, one after another. What a change needs that is not in memory, or must be
 * on the disk before something else, is a job, of which one runs at a time; while it does, nobody changes a table.
 *
 * The order of writes, so that a crash at any point leaves no more than clusters that nobody uses:
 * 1. data, copies, new L2 tables (empty, or copied), refcount blocks;  fdatasync
 * 2. entries of the refcount table for blocks that are new;            fdatasync
 * 3. L2 and L1 entries that refer to all this;                         fdatasync
 * 4. refcounts of what nothing refers to any more fall: in memory, written with the next step 1.
 * A refcount block that is not in the refcount table yet, or a longer refcount table that the header does not name yet,
 * is nobody's. Each entry lies in one sector and stands for itself, so part of a write does no harm.
 */
import type { Frees } from "./frees.ts";
import type { Io } from "./io.ts";
import { LaneError } from "./lane-error.ts";
import type { LaneIo } from "./lane-io.ts";
import { List } from "./lists.ts";
import type { RefcountJobs } from "./refcount-jobs.ts";
import type { TableJobs } from "./table-jobs.ts";
import type { Waits } from "./waits.ts";

type Job = Generator<void, void>;

/** What `enter` says. */
export const Enter = { goOn: 0, parked: 1, refused: 2 } as const;

/** Who asked for the job, or -1; whether the job is a commit, and the last one failed; a commit is due. */
const [asker, commits, lastFailed, commitWanted] = [0, 1, 2, 3];

export class Lane {
  private readonly running: Job[] = [];
  private readonly state = new Int32Array(4);

  constructor(
    readonly tables: TableJobs,
    readonly refcounts: RefcountJobs,
    readonly laneIo: LaneIo,
    readonly io: Io,
    readonly frees: Frees,
    readonly waits: Waits,
  ) {}

  get isFree(): boolean {
    return this.running.length === 0;
  }

  /** A task is about to change a table: it may, at once; or it waits and has to look at everything anew; or never. */
  enter(task: number): number {
    if (this.tables.hasFailed) return Enter.refused;
    if (this.isFree && this.tables.isPrepared) return Enter.goOn;
    this.waits.park(List.lane, task);
    if (this.isFree) this.run(this.tables.prepare(), task);
    return Enter.parked;
  }

  /** The task waits until refcounts are at hand: what `Refcounts.find` said. */
  provide(need: number, task: number): void {
    this.waits.park(List.lane, task);
    if (this.isFree) this.run(this.refcounts.provide(need), task);
  }

  /** The task waits until L2 table `index` is there, and this image's alone. */
  ownTable(index: number, task: number): void {
    this.waits.park(List.lane, task);
    if (this.isFree) this.run(this.tables.ownTable(index), task);
  }

  /** The task waits for a commit: the cache of L2 tables has no room left. */
  makeRoom(task: number): void {
    this.waits.park(List.lane, task);
    if (!this.isFree) return;
    this.state[commits] = 1;
    this.run(this.commit(), task);
  }

  /** The task waits until clusters have been freed. */
  makeRoomForFrees(task: number): void {
    this.waits.park(List.freed, task);
    this.state[commitWanted] = 1;
  }

  /** The task waits until everything before is durable. */
  flush(task: number): void {
    this.waits.park(List.flush, task);
  }

  /** An operation of the lane has ended. */
  ended(index: number, result: number): void {
    this.laneIo.ended(index, result);
    if (!this.isFree) this.resume();
  }

  /** Nobody is ready: what is due in the lane begins. */
  idle(): void {
    if (!this.isFree) return;
    if (!this.waits.isEmpty(List.flush) || this.state[commitWanted] === 1) this.startCommit();
    else this.startRelease();
  }

  /** For the end: begins what has to be written yet. False when there is no more of it. */
  finish(): boolean {
    const { tables, frees, state } = this;
    if (!this.isFree) return true;
    if (tables.hasFailed || state[lastFailed] === 1) return false;
    if (tables.hasUnwritten) this.startCommit();
    else if (frees.hasCommitted) this.startRelease();
    else return false;
    return true;
  }

  private startCommit(): void {
    this.state[commits] = 1;
    this.run(this.commit(), -1);
  }

  /** What is committed is let go, and given back when nobody can be using it. */
  private startRelease(): void {
    const { frees, io } = this;
    if (frees.letGoCount === 0) {
      if (!frees.hasCommitted || !io.drained) return;
      frees.letGo();
      io.turnOver();
    }
    if (io.drained) this.run(this.release(), -1);
  }

  private run(job: Job, task: number): void {
    this.state[asker] = task;
    this.running.push(job);
    this.resume();
  }

  private resume(): void {
    const { running, state, waits, tables } = this;
    let error = 0;
    try {
      if (!running[0]!.next().done) return;
    } catch (failure) {
      if (!(failure instanceof LaneError)) throw failure;
      error = failure.errno;
    }
    running.length = 0;
    const wasCommit = state[commits] === 1;
    state[commits] = 0;
    state[lastFailed] = error === 0 ? 0 : 1;
    if (error !== 0 && state[asker]! >= 0) waits.errors[state[asker]!] = error;
    if (wasCommit) waits.wake(List.committing, error);
    if (tables.hasFailed || (wasCommit && error !== 0)) waits.wake(List.freed, error);
    // flushes and changes take turns
    if (!wasCommit && !waits.isEmpty(List.flush)) this.startCommit();
    else waits.wake(List.lane);
  }

  private *commit(): Job {
    const { tables, waits, frees, state } = this;
    state[commitWanted] = 0;
    waits.move(List.flush, List.committing);
    yield* tables.commit();
    frees.commit();
    waits.wake(List.loadRoom);
  }

  private *release(): Job {
    try {
      yield* this.refcounts.release();
    } finally {
      // should one have failed, the rest is lost room: nothing must fall twice
      this.frees.drop();
      this.waits.wake(List.freed);
    }
  }
}
