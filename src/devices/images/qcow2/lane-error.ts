/** A job of the lane could not be done: a result for those who wait for it, as an errno. */
export class LaneError extends Error {
  constructor(readonly errno: number) {
    super(`errno ${errno}`);
  }
}
